package ingress

import (
	"errors"
	"net/http"
	"time"
)

// sender sends a request to one endpoint of a group, or another, over the wires that they keep.
type sender struct {
	out    []byte     // the request, head and body
	again  bool       // it may be sent twice (RFC 9110 section 9.2.1, no body)
	shake  bool       // it asks for WebSocket
	answer answerHead // of the endpoint, once connect has succeeded
	judged judged     // what a policy says about the request
}

// asker is the client's side of an exchange.
type asker interface {
	gone() bool           // it does not wait any longer
	inform(a *answerHead) // an interim answer came
}

// connect finds an endpoint that answers, under the rules of Group.RoundTrip for another try. The caller leaves
// e.requests when it is done with the answer.
func (s *sender) connect(c *call, client asker) (w *wire, e *endpoint, err error) {
	g := c.group
	var space [maxDials]*endpoint
	tried := space[:0]
	last := errNoEndpoint
	for resends := 0; len(tried) < maxDials; {
		if e = g.pick(c.attempt.Choice, tried); e == nil {
			break
		}
		tried = append(tried, e)
		c.attempt.Endpoint = e
		if w, err = s.ask(e, client, c.route.policy().ConnectTimeout); err == nil {
			g.note(e, failing(s.answer.code))
			return w, e, nil
		}
		e.requests.leave()
		last = err
		if errors.Is(err, errClientGone) || errors.Is(err, errNoLine) {
			return nil, nil, err
		}
		g.note(e, true)
		var unsent *dialError
		switch {
		case errors.As(err, &unsent):
			e.rest()
		case s.again && resends < maxResends && !isTimeout(err):
			resends++
		default:
			return nil, nil, err
		}
	}
	return nil, nil, last
}

// ask sends the request to e and returns when the head of its answer is there. A connection that turns out to be
// closed is no failure of the endpoint: a request that may be sent again is, on another one.
func (s *sender) ask(e *endpoint, client asker, dialLimit time.Duration) (*wire, error) {
	for {
		w := e.wires.get(!s.again)
		if w == nil {
			var err error
			if w, err = e.dialWire(dialLimit); err != nil {
				return nil, err
			}
		}
		err := s.askOn(w, client)
		if err == nil {
			return w, nil
		}
		nothing := w.w == 0
		_ = w.Close() // it is no use any more
		if w.reused && s.again && nothing && !isTimeout(err) && !errors.Is(err, errClientGone) {
			continue
		}
		return nil, err
	}
}

func (s *sender) askOn(w *wire, client asker) error {
	began := time.Now()
	err := w.send(s.out)
	for {
		for err != nil && isWatch(err) {
			switch {
			case client.gone():
				err = errClientGone
			case time.Since(began) > responseTimeout:
				err = answerTimeout{}
			default:
				err = w.more()
			}
		}
		if err != nil {
			return err
		}
		done, bad := s.answer.parse(w.buf[w.r:w.w])
		switch {
		case bad != nil:
			return bad
		case !done:
			err = w.more()
		case s.answer.code == http.StatusSwitchingProtocols:
			if !s.shake || !isName(s.answer.upgrade, "websocket") {
				return errBadAnswer // nobody asked for that
			}
			return nil
		case s.answer.code < 200:
			if s.answer.code != http.StatusContinue {
				client.inform(&s.answer)
			}
			if w.r += s.answer.size; w.r == w.w {
				err = w.more()
			}
		default:
			return nil
		}
	}
}

func repeatableMethod(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}
