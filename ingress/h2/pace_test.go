package h2

import (
	"errors"
	"io"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"svcplane/ingress/pace"
)

// TestFullConnection: a peer that cannot send a body because others fill the connection's window, which nobody reads, is not
// slow.
func TestFullConnection(t *testing.T) {
	const most = 500 * time.Millisecond
	release := make(chan struct{})
	p := connect(t, limits(func(st *Stream) {
		if st.Length == streamWindow {
			<-release
			_, _ = io.Copy(io.Discard, st) // that it is read is all
			return
		}
		st.Pace(&pace.Limit{Rate: 1, Grace: most, Most: most})
		ok(st)
	}))
	const size = "262144"
	part := make([]byte, maxFrame)
	for i := range uint32(connWindow / streamWindow) {
		p.request(2*i+1, false, "content-length", size)
		for n := 0; n < streamWindow; n += maxFrame {
			p.must(p.WriteData(2*i+1, n+maxFrame == streamWindow, part))
		}
	}
	p.request(101, false)
	time.AfterFunc(2*most, func() {
		close(release)
		time.Sleep(50 * time.Millisecond)
		_ = p.WriteData(101, true, []byte("late")) // the answer tells
	})
	p.wants(101, "200 late")
}

// TestTurns: streams that wait for the connection's window are not slow as long as it opens fast enough for one of them. One
// that gets nothing of it is reset with the others when it does not open any more.
func TestTurns(t *testing.T) {
	const most, streams = time.Second, 10
	failed := make(chan error, streams)
	cfg := limits(func(st *Stream) {
		var head Block
		head.Begin(200)
		failed <- st.Send(&head, make([]byte, 100<<10), true)
	})
	cfg.Answers = pace.Limit{Rate: 4000, Grace: most, Most: most}
	p := connect(t, cfg, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	for i := range uint32(streams) {
		p.request(2*i+1, true)
	}
	for range 50 {
		time.Sleep(50 * time.Millisecond)
		p.must(p.WriteWindowUpdate(0, 1000)) // five times the rate together, half of it each
	}
	select {
	case err := <-failed:
		t.Fatalf("it ended while the window opened: %v", err)
	default:
	}
	for range streams {
		if err := <-failed; !errors.Is(err, pace.ErrSlow) {
			t.Errorf("%v, want %v", err, pace.ErrSlow)
		}
	}
}
