package http1

import "testing"

// TestAnswersWithoutBody: an answer that has no body announces none, whatever the endpoint says: Python's client waits for the
// chunks of a 204. What the endpoint sends behind it is not the next answer.
func TestAnswersWithoutBody(t *testing.T) {
	for _, tt := range []struct {
		status, fields, want string
		close                bool
	}{
		{"204 No Content", "Transfer-Encoding: chunked\r\n", "", true},
		{"204 No Content", "Trailer: X\r\nTransfer-Encoding: chunked\r\n", "", true},
		{"204 No Content", "Content-Length: 5\r\nX: y\r\n", "X: y\r\n", true},
		{"204 No Content", "Content-Length: 0\r\n", "", false},
		{"103 Early Hints", "Content-Length: 0\r\nLink: </a>\r\n", "Link: </a>\r\n", false},
		{"304 Not Modified", "Transfer-Encoding: chunked\r\n", "", true},
		{"304 Not Modified", "Content-Length: 5\r\n", "Content-Length: 5\r\n", false},
		{"200 OK", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\n", false},
		{"200 OK", "Content-Length: 5\r\n", "Content-Length: 5\r\n", false},
	} {
		var h ResponseHead
		if done, err := h.Parse([]byte("HTTP/1.1 " + tt.status + "\r\n" + tt.fields + "\r\n")); !done || err != nil {
			t.Fatalf("%s with %q: %v, %v", tt.status, tt.fields, done, err)
		}
		want := "HTTP/1.1 " + tt.status + "\r\n" + tt.want + "\r\n"
		if got := string(h.AppendTo(nil, false)); got != want || h.Close != tt.close {
			t.Errorf("%s with %q: %q, the connection ends: %v; want %q, %v", tt.status, tt.fields, got, h.Close, want, tt.close)
		}
	}
}
