package serve

import (
	"errors"
	"net/http"
	"time"

	"svcplane/ingress/http1"
	"svcplane/ingress/upstream"
)

// sender sends a request to one endpoint of a group, or another, over the wires that they keep.
type sender struct {
	out    []byte             // the request, head and body
	again  bool               // it may be sent twice (RFC 9110 section 9.2.1, no body)
	shake  bool               // it asks for WebSocket
	answer http1.ResponseHead // of the endpoint, once connect has succeeded
	judged judged             // what a policy says about the request
}

// asker is the client's side of an exchange.
type asker interface {
	gone() bool                   // it does not wait any longer
	inform(a *http1.ResponseHead) // an interim answer came
}

// connect finds an endpoint that answers, under the rules of Group.RoundTrip for another try. The caller leaves
// e.requests when it is done with the answer.
func (s *sender) connect(c *call, client asker) (w *upstream.Conn, e *upstream.Endpoint, err error) {
	g := c.group
	var space [upstream.MaxDials]*upstream.Endpoint
	tried := space[:0]
	last := upstream.ErrNoEndpoint
	for resends := 0; len(tried) < upstream.MaxDials; {
		if e = g.Pick(c.attempt.Choice, tried); e == nil {
			break
		}
		tried = append(tried, e)
		c.attempt.Endpoint = e
		if w, err = s.ask(e, client, c.route.policy().ConnectTimeout); err == nil {
			g.Report(e, upstream.Failing(s.answer.Code))
			return w, e, nil
		}
		e.Requests.Leave()
		last = err
		if errors.Is(err, errClientGone) || errors.Is(err, upstream.ErrTooManyConns) {
			return nil, nil, err
		}
		g.Report(e, true)
		var unsent *upstream.DialError
		switch {
		case errors.As(err, &unsent):
			e.Rest()
		case s.again && resends < upstream.MaxResends && !upstream.IsTimeout(err):
			resends++
		default:
			return nil, nil, err
		}
	}
	return nil, nil, last
}

// ask sends the request to e and returns when the head of its answer is there. A connection that turns out to be
// closed is no failure of the endpoint: a request that may be sent again is, on another one.
func (s *sender) ask(e *upstream.Endpoint, client asker, dialLimit time.Duration) (*upstream.Conn, error) {
	for {
		w := e.Conns.Get(!s.again)
		if w == nil {
			var err error
			if w, err = e.Dial(dialLimit); err != nil {
				return nil, err
			}
		}
		err := s.askOn(w, client)
		if err == nil {
			return w, nil
		}
		nothing := w.W == 0
		_ = w.Close() // it is no use any more
		if w.Reused && s.again && nothing && !upstream.IsTimeout(err) && !errors.Is(err, errClientGone) {
			continue
		}
		return nil, err
	}
}

func (s *sender) askOn(w *upstream.Conn, client asker) error {
	began := time.Now()
	err := w.Send(s.out)
	for {
		for err != nil && upstream.IsWatch(err) {
			switch {
			case client.gone():
				err = errClientGone
			case time.Since(began) > upstream.ResponseTimeout:
				err = upstream.AnswerTimeout{}
			default:
				err = w.More()
			}
		}
		if err != nil {
			return err
		}
		done, bad := s.answer.Parse(w.Buf[w.R:w.W])
		switch {
		case bad != nil:
			return bad
		case !done:
			err = w.More()
		case s.answer.Code == http.StatusSwitchingProtocols:
			if !s.shake || !http1.IsName(s.answer.Upgrade, "websocket") {
				return http1.ErrBadResponse // nobody asked for that
			}
			return nil
		case s.answer.Code < 200:
			if s.answer.Code != http.StatusContinue {
				client.inform(&s.answer)
			}
			if w.R += s.answer.Size; w.R == w.W {
				err = w.More()
			}
		default:
			return nil
		}
	}
}
