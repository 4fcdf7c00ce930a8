package serve

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"svcplane/ingress/listen"
	"svcplane/ingress/pace"
)

// readBody reads the rest of a body, which is small, behind its head.
func (f *http1Conn) readBody() error {
	need := f.head.Size + f.head.Length
	if f.r > 0 || need > len(f.buf) {
		to := f.buf
		if need > len(f.buf) {
			to = make([]byte, need)
		}
		f.w = copy(to, f.buf[f.r:f.w])
		f.r, f.buf = 0, to
	}
	var from io.Reader = f.c
	if f.secure != nil {
		from = f.secure
	}
	var in listen.Inflow
	in.Start(f.c, &f.s.bodies, int64(f.w-f.head.Size))
	for f.w < need {
		if err := f.c.SetReadDeadline(in.Meter.Wait(time.Now())); err != nil {
			return err
		}
		n, err := from.Read(f.buf[f.w:need])
		f.w += n
		in.Came()
		switch {
		case err == nil || f.w == need:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case in.Meter.Slow():
			return pace.ErrSlow
		}
	}
	f.deadline = time.Time{}
	f.head.Parse(f.buf[:f.w]) // its slices point into the old place
	return nil
}

// slowBody ends a request whose body did not come, and counts it if it came too slowly.
func (f *http1Conn) slowBody(began time.Time, err error) outcome {
	if !errors.Is(err, pace.ErrSlow) {
		return finished
	}
	f.say("HTTP/1.1 408 Request Timeout", "the request body did not come in time")
	f.head.Parse(f.buf[f.r:f.w])
	who := f.asks()
	o, ok := f.s.fastpath(f.l, &f.head, f.sni, &who, &f.judged)
	if ok {
		o.group.Requests.Leave()
	}
	o.began, o.client, o.proto, o.ended = began, who.Client, who.Proto, slowBody
	o.asked, o.answered = int64(f.w-f.r), int64(len(f.out))
	f.s.finishOwn(&o.call, &f.head, "HTTP/1.1", http.StatusRequestTimeout, 0)
	return finished
}
