package h2

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"svcplane/ingress/pace"
)

// TestTime: what has to come in time, and what happens when it does not.
func TestTime(t *testing.T) {
	t.Run("header block", func(t *testing.T) {
		cfg := limits(ok)
		cfg.HeaderTimeout = 50 * time.Millisecond
		p := connect(t, cfg)
		p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block()}))
		p.ends(http2.ErrCodeEnhanceYourCalm)
	})
	t.Run("idle", func(t *testing.T) {
		cfg := limits(ok)
		cfg.IdleTimeout = 50 * time.Millisecond
		p := connect(t, cfg)
		p.request(1, true)
		p.wants(1, "200")
		p.ends(http2.ErrCodeNo)
	})
	t.Run("body", func(t *testing.T) {
		p := connect(t, limits(func(st *Stream) {
			st.Pace(&pace.Limit{Most: 20 * time.Millisecond})
			_, err := st.Read(make([]byte, 1))
			var head Block
			head.Begin(408)
			_ = st.Send(&head, []byte(fmt.Sprint(err)), true)
		}))
		p.request(1, false)
		p.wants(1, "408 slower than the minimum rate: i/o timeout")
	})
}

// TestShutdown: GOAWAY, requests on their way, GOAWAY with the last of them, and the end after it was answered.
func TestShutdown(t *testing.T) {
	release := make(chan struct{})
	p := connect(t, limits(func(st *Stream) {
		<-release
		ok(st)
	}))
	p.request(1, true)
	p.c.Shutdown(time.Hour)
	p.wants(0, "goaway NO_ERROR")
	p.request(3, true) // it was on its way
	p.c.Shutdown(time.Millisecond)
	last := uint32(maxWindow)
	for last == maxWindow {
		f, err := p.ReadFrame()
		p.must(err)
		if g, ok := f.(*http2.GoAwayFrame); ok {
			last = g.LastStreamID
		}
	}
	p.request(5, true) // too late
	close(release)
	answered := map[uint32]bool{}
	for {
		f, err := p.ReadFrame()
		if err != nil {
			break
		}
		if h := f.Header(); h.Type == http2.FrameHeaders {
			answered[h.StreamID] = true
		}
	}
	if !answered[1] || last >= 3 && !answered[3] || answered[5] {
		t.Errorf("answered %v, GOAWAY said %d", answered, last)
	}
}

func TestIntegers(t *testing.T) {
	for n, want := range map[int]string{10: "\x0a", 126: "\x7e", 127: "\x7f\x00", 1337: "\x7f\xba\x09"} {
		if got := string(appendInt(nil, 0, 7, n)); got != want {
			t.Errorf("%d is % x, want % x", n, got, want)
		}
	}
	if got := appendHeaders(nil, 1, make([]byte, 40000), true, maxFrame); binary.BigEndian.Uint16(got[1:]) != maxFrame || len(got) != 40000+3*frameHead {
		t.Errorf("%d bytes", len(got))
	}
}
