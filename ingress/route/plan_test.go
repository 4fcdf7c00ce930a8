package route

import (
	"net/http"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// TestEveryFieldIsAStep: a field of a Policy that no step knows would be ignored without a word.
func TestEveryFieldIsAStep(t *testing.T) {
	set := Policy{
		HTTPSRedirect: true, Redirect: &Redirect{To: "/x", Code: 302}, AppRoot: "/x", Rewrite: &Rewrite{To: "/x"},
		ConnectTimeout: time.Second, ReadTimeout: time.Second, SendTimeout: time.Second, MaxBody: 1,
		CORS: &CORS{}, Auth: &Auth{}, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Deny: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Limits: Limits{PerSecond: 1}, Canary: &Canary{}, Sticky: &Sticky{}, Hash: HashSource{Of: HashURI}, Balance: LeastRequests, Protocol: ProtocolH2C,
		RequestHeaders: []HeaderField{{"A", "b"}}, ResponseHeaders: []HeaderField{{"A", "b"}}, UpstreamHost: "x", Closed: []string{"why"},
	}
	from := reflect.ValueOf(set)
	for i := range from.NumField() {
		field := from.Type().Field(i).Name
		if field == "ClosedHost" {
			continue // it is about routes of others, which a Claim closes
		}
		if from.Field(i).IsZero() {
			t.Errorf("this test sets no %s", field)
			continue
		}
		var p Policy
		reflect.ValueOf(&p).Elem().Field(i).Set(from.Field(i))
		if plan := Compile(&p, nil); len(plan.steps) == 0 {
			t.Errorf("%s makes no step", field)
		}
	}
	if plan := Compile(&Policy{}, nil); len(plan.steps) > 0 || !plan.Fast {
		t.Errorf("a policy that wants nothing has %d steps", len(plan.steps))
	}
}

// TestDecide: what a policy says, in the order in which it says it.
func TestDecide(t *testing.T) {
	ten := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	login := func(name, password string) bool { return name == "toad" && password == "x" }
	path := func(text string) Path {
		p, err := CleanPath(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	here, there := netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("192.0.2.1")
	basic := asked{method: "GET", headers: map[string]string{"Authorization": "Basic dG9hZDp4"}}
	preflight := asked{method: "OPTIONS", headers: map[string]string{"Origin": "https://a.test", "Access-Control-Request-Method": "PUT"}}
	plain := Request{View: asked{method: "GET"}, Client: here, Scheme: "http", Host: "h:80", Path: path("/a/b"), Place: "/a"}
	with := func(change func(*Request)) Request {
		r := plain
		change(&r)
		return r
	}
	for _, test := range []struct {
		name   string
		over   *Policy
		own    Policy
		asks   Request
		code   int    // 0: it is passed on
		header string // of the answer
		send   string
	}{
		{name: "nothing", asks: plain, send: "/a/b"},
		{name: "closed before all", own: Policy{Closed: []string{"why"}, HTTPSRedirect: true}, asks: plain, code: 503},
		{name: "ranges before redirects", own: Policy{Allow: ten, HTTPSRedirect: true}, asks: with(func(r *Request) { r.Client = there }), code: 403},
		{name: "https", own: Policy{HTTPSRedirect: true}, asks: with(func(r *Request) { r.RawQuery, r.HTTPSPort = "x=y", 8443 }), code: 308, header: "https://h:8443/a/b?x=y"},
		{name: "https already", own: Policy{HTTPSRedirect: true}, asks: with(func(r *Request) { r.Scheme = "https" }), send: "/a/b"},
		{name: "redirect", own: Policy{Redirect: &Redirect{To: "/x", Code: 302}}, asks: plain, code: 302, header: "/x"},
		{name: "root", own: Policy{AppRoot: "/home"}, asks: with(func(r *Request) { r.Path = path("/") }), code: 302, header: "/home"},
		{name: "not the root", own: Policy{AppRoot: "/home"}, asks: plain, send: "/a/b"},
		{name: "preflight before login", own: Policy{CORS: &CORS{Origins: []string{"*"}}, Auth: &Auth{}}, asks: with(func(r *Request) { r.View = preflight }), code: 204},
		{name: "login", own: Policy{Auth: &Auth{Realm: "shed"}}, asks: plain, code: 401, header: `Basic realm="shed", charset="UTF-8"`},
		{name: "logged in", own: Policy{Auth: &Auth{}}, asks: with(func(r *Request) { r.View = basic }), send: "/a/b"},
		{name: "too large", own: Policy{MaxBody: 5}, asks: with(func(r *Request) { r.Length = 6 }), code: 413},
		{name: "length unknown", own: Policy{MaxBody: 5}, asks: with(func(r *Request) { r.Length = -1 }), send: "/a/b"},
		{name: "rewritten", own: Policy{Rewrite: &Rewrite{To: "/new"}}, asks: plain, send: "/new/b"},
		{name: "rewritten above the root", own: Policy{Rewrite: &Rewrite{To: "/$2", Mode: RewriteFull}}, asks: with(func(r *Request) { r.Path = Path{Sent: "/a/../../x", Match: "/x"} }), code: 400},
		{name: "over answers first", over: &Policy{Closed: []string{"why"}}, own: Policy{Redirect: &Redirect{To: "/x", Code: 302}}, asks: plain, code: 503},
		{name: "over changes nothing", over: &Policy{Rewrite: &Rewrite{To: "/other"}, UpstreamHost: "other"}, asks: plain, send: "/a/b"},
	} {
		var over *Plan
		if test.over != nil {
			over = Compile(test.over, login)
		}
		var d Decision
		Decide(&test.asks, over, Compile(&test.own, login), &d)
		switch {
		case test.code == 0 && d.Answer != nil:
			t.Errorf("%s: answered %+v", test.name, d.Answer)
		case test.code == 0 && (d.Send.Sent != test.send || d.Host != "h:80"):
			t.Errorf("%s: sent to %q %q, want %q", test.name, d.Host, d.Send.Sent, test.send)
		case test.code != 0 && (d.Answer == nil || d.Answer.Code != test.code):
			t.Errorf("%s: %+v, want %d", test.name, d.Answer, test.code)
		case test.header != "" && (len(d.Answer.Fields) != 1 || d.Answer.Fields[0].Value != test.header):
			t.Errorf("%s: %+v, want %q", test.name, d.Answer.Fields, test.header)
		}
	}
}

// TestEdits: what a decision changes of heads.
func TestEdits(t *testing.T) {
	plan := Compile(&Policy{
		CORS: &CORS{Origins: []string{"https://a.test"}}, Sticky: &Sticky{Cookie: "at"},
		RequestHeaders: []HeaderField{{"X-A", "b"}, {"X-Gone", ""}}, ResponseHeaders: []HeaderField{{"X-Own", "d"}},
	}, nil)
	asks := http.Header{"X-Gone": {"1"}, "Authorization": {"secret"}}
	plan.EditRequest(asks, &Decision{WithoutAuthorization: true})
	if want := (http.Header{"X-A": {"b"}}); !reflect.DeepEqual(asks, want) {
		t.Errorf("the request has %v, want %v", asks, want)
	}
	for _, test := range []struct {
		decision Decision
		endpoint uint64
		want     http.Header
	}{
		{Decision{Origin: "https://a.test"}, 7, http.Header{"Access-Control-Allow-Origin": {"https://a.test"}, "Vary": {"Origin"}, "Set-Cookie": {"at=7; HttpOnly"}, "X-Own": {"d"}}},
		{Decision{Choice: Choice{Pinned: 7}}, 7, http.Header{"Vary": {"Origin"}, "X-Own": {"d"}}},
		{Decision{}, 0, http.Header{"Vary": {"Origin"}, "X-Own": {"d"}}},
	} {
		answer := http.Header{"Access-Control-Allow-Origin": {"*"}}
		plan.EditAnswer(answer, &test.decision, test.endpoint)
		if !reflect.DeepEqual(answer, test.want) {
			t.Errorf("%+v: the answer has %v, want %v", test.decision, answer, test.want)
		}
	}
}

// TestChoice: what decides about the endpoint.
func TestChoice(t *testing.T) {
	view := asked{method: "GET", headers: map[string]string{"X-User": "toad"}, query: map[string]string{"q": "1"}, cookies: map[string]string{"at": "1f", "user": "toad"}}
	r := Request{View: view, Client: netip.MustParseAddr("192.0.2.1"), Host: "H.test:80", Path: Path{Sent: "/a", Match: "/a"}, RawQuery: "q=1"}
	for of, text := range map[HashSource]string{
		{Of: HashURI}: "/a?q=1", {Of: HashPath}: "/a", {Of: HashHost}: "h.test", {Of: HashClient}: "192.0.2.1",
		{Of: HashHeader, Name: "X-User"}: "toad", {Of: HashCookie, Name: "user"}: "toad", {Of: HashQuery, Name: "q"}: "1",
	} {
		plan := Compile(&Policy{Hash: of}, nil)
		var d Decision
		Decide(&r, nil, plan, &d)
		if want := (Choice{Hashed: true, Hash: Hash(text)}); d.Choice != want {
			t.Errorf("%+v: %+v, want %+v", of, d.Choice, want)
		}
		if plan.Fast != (of.Of != HashQuery) {
			t.Errorf("%+v: without net/http %v", of, plan.Fast)
		}
	}
	var d Decision
	Decide(&r, nil, Compile(&Policy{Sticky: &Sticky{Cookie: "at"}, Balance: LeastRequests}, nil), &d)
	if want := (Choice{Balance: LeastRequests, Pinned: 0x1f}); d.Choice != want {
		t.Errorf("%+v, want %+v", d.Choice, want)
	}
}
