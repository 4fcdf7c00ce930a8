package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Method is something that a server does for those who may open its socket: it is called with a Request, a struct whose fields
// go as JSON strings (",string" where they are none), and gives an Answer, which goes as JSON.
type Method[Request, Answer any] struct{ Verb, Path string }

// None is the Request of a Method that needs none.
type None struct{}

// Call calls a method of the server of a data directory. What the server blames on its caller is a BadRequest.
func (m Method[Request, Answer]) Call(ctx context.Context, dataDir string, r Request) (answer Answer, err error) {
	query, err := queryOf(r)
	if err != nil {
		return answer, fmt.Errorf("asking for %s: %w", m.Path, err)
	}
	return answer, ask(ctx, dataDir, m.Verb, m.Path, query, &answer)
}

// Handle has do carry out a method. Its error goes out as a line of text, with 400 if it is a BadRequest.
func (m Method[Request, Answer]) Handle(s *Server, do func(context.Context, Request) (Answer, error)) {
	s.handle(m.Verb+" "+m.Path, func(r *http.Request) (any, error) {
		var request Request
		if err := readQuery(r.URL.Query(), &request); err != nil {
			return nil, Blame(fmt.Errorf("what is asked for by %s: %w", m.Path, err))
		}
		return do(r.Context(), request)
	})
}

// queryOf writes the fields of a request.
func queryOf(request any) (url.Values, error) {
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	var fields map[string]string
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	query := url.Values{}
	for name, value := range fields {
		query.Set(name, value)
	}
	return query, nil
}

// readQuery reads what queryOf wrote.
func readQuery(query url.Values, request any) error {
	fields := map[string]string{}
	for name := range query {
		fields[name] = query.Get(name)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, request)
}
