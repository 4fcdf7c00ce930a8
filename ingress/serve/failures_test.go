package serve

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"testing"

	"svcplane/ingress/upstream"
)

func TestFailuresAsCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
	}{
		{upstream.ErrNoEndpoint, 503},
		{&upstream.DialError{Host: "x", Cause: errors.New("refused")}, 502},
		{&upstream.ClientError{Cause: errors.New("bad chunk")}, 400},
		{&upstream.ClientError{Cause: os.ErrDeadlineExceeded}, 408},
		{fmt.Errorf("head: %w", os.ErrDeadlineExceeded), 504},
	} {
		rec := httptest.NewRecorder()
		answerFailure(rec, httptest.NewRequest("GET", "/", nil), test.err)
		if rec.Code != test.code {
			t.Errorf("%v: %d, want %d", test.err, rec.Code, test.code)
		}
	}
}
