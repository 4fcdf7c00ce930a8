package route

import (
	"net/http"
	"strconv"
)

// EditRequest changes the headers of a request that is passed on.
func (p *Plan) EditRequest(h Headers, d *Decision) {
	if p != nil {
		setFields(h, p.RequestHeaders)
	}
	if d.WithoutAuthorization {
		h.Del("Authorization")
	}
}

// Edits says whether EditRequest changes a header of that name.
func (p *Plan) Edits(name string, d *Decision) bool {
	if d.WithoutAuthorization && name == "Authorization" {
		return true
	}
	if p != nil {
		for i := range p.RequestHeaders {
			if p.RequestHeaders[i].Name == name {
				return true
			}
		}
	}
	return false
}

// EditAnswer changes the headers of an endpoint's answer. endpoint is its id, 0 if none answered.
func (p *Plan) EditAnswer(h Headers, d *Decision, endpoint uint64) {
	if p == nil {
		return
	}
	if p.CORS != nil {
		p.CORS.allow(h, d.Origin)
	}
	if p.Sticky != nil && endpoint != 0 && endpoint != d.Choice.Pinned {
		h.Add("Set-Cookie", p.Sticky.pin(endpoint).String())
	}
	setFields(h, p.ResponseHeaders)
}

// setFields sets or, where there is no value, removes headers.
func setFields(h Headers, fields []HeaderField) {
	for _, f := range fields {
		if f.Value == "" {
			h.Del(f.Name)
		} else {
			h.Set(f.Name, f.Value)
		}
	}
}

// pin is the cookie that keeps a client with an endpoint.
func (s *Sticky) pin(endpoint uint64) *http.Cookie {
	return &http.Cookie{Name: s.Cookie, Value: strconv.FormatUint(endpoint, 16), Path: s.Path, Domain: s.Domain, MaxAge: s.MaxAge,
		SameSite: s.SameSite, Secure: s.Secure, HttpOnly: true}
}
