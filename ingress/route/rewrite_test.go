package route

import "testing"

func TestRewrite(t *testing.T) {
	for _, row := range []struct {
		to     string
		mode   RewriteMode
		route  string
		asked  string
		expect string
	}{
		{"/new", RewritePrefix, "/old", "/old", "/new"},
		{"/new", RewritePrefix, "/old", "/old/", "/new/"},
		{"/new", RewritePrefix, "/old", "/old/a%2Fb", "/new/a%2Fb"},
		{"/new", RewritePrefix, "/old", "//old//a%7e", "/new//a%7e"},
		{"/$2", RewriteFull, "/old", "/old/a//b", "/a//b"},
		{"/", RewritePrefix, "/old", "/old", "/"},
		{"/", RewritePrefix, "/old", "/old/x", "/x"},
		{"/new/", RewritePrefix, "/", "/x", "/new/x"},
		{"/", RewriteFull, "/old", "/old/x", "/"},
		{"/$2", RewriteFull, "/old", "/old/x/y", "/x/y"},
		{"/$2", RewriteFull, "/old", "/old", "/"},
		{"/in$1$2", RewriteFull, "/old", "/old/x", "/in/x"},
		{"/in/$1", RewriteFull, "/", "/x", "/in/x"},
	} {
		p, err := CleanPath(row.asked)
		if err != nil {
			t.Fatal(err)
		}
		rw := Rewrite{row.to, row.mode}
		if got, err := rw.apply(row.route, p); err != nil || got.Sent != row.expect {
			t.Errorf("%s of %s to %s: %q %v, want %q", row.asked, row.route, row.to, got.Sent, err, row.expect)
		}
	}
}
