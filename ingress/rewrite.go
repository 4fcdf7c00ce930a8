package ingress

import (
	"net/url"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
)

// apply is the path to send, escaped, for a request of a route with path. The rest is taken from what the client
// sent, so that its escapes stay.
func (rw *Rewrite) apply(route string, p cleanPath) (cleanPath, error) {
	rest := afterElements(p.sent, strings.Count(strings.TrimSuffix(route, "/"), "/")) // "" or begins with a slash
	to := rw.To
	switch rw.Mode {
	case RewritePrefix:
		if rest != "" && rest != "/" || strings.HasSuffix(p.sent, "/") {
			to = strings.TrimSuffix(to, "/") + rest
		}
	case RewriteFull:
		// "/x(/|$)(.*)": $1 is the slash, $2 the rest; "/x/(.*)": $1 is the rest. The highest one that is named
		// is the rest.
		tail := strings.TrimPrefix(rest, "/")
		if strings.Contains(to, "$2") {
			to = strings.NewReplacer("$1", rest[:len(rest)-len(tail)], "$2", tail).Replace(to)
		} else {
			to = strings.ReplaceAll(to, "$1", tail)
		}
	}
	return cleanURLPath(to)
}

// afterElements is what follows the first n elements of a path, however many slashes are before each.
func afterElements(path string, n int) string {
	for i := 0; i < len(path); i++ {
		if path[i] != '/' || i > 0 && path[i-1] == '/' {
			continue
		}
		if n--; n < 0 {
			return path[i:]
		}
	}
	return ""
}

// capturesPaths says whether the paths of an Ingress are regular expressions: it says so or, as with ingress-nginx,
// its rewrite target refers to what they capture.
func capturesPaths(ing *networkingv1.Ingress, p *Policy) bool {
	for _, prefix := range []string{ownPrefix, nginxPrefix} {
		if ing.Annotations[prefix+"use-regex"] == "true" {
			return true
		}
	}
	return p != nil && p.Rewrite != nil && strings.Contains(p.Rewrite.To, "$")
}

// plainPath recognises the regular expressions that the users of nginx write to capture the rest of a path, and
// returns the prefix that matches the same; false for any other text that is no plain path.
func plainPath(text string) (string, bool) {
	for _, tail := range []string{"(/|$)(.*)", "/?(.*)", "/(.*)", "(.*)", "/.*", ".*"} {
		if p, ok := strings.CutSuffix(text, tail); ok {
			text = p
			break
		}
	}
	if text == "" {
		text = "/"
	}
	return text, !strings.ContainsAny(text, `^$()[]{}|*+?\`)
}

// httpsLocation is the same URL by https.
func httpsLocation(host string, port uint16, u *url.URL) string {
	to := "https://" + host
	if port != 0 && port != 443 {
		to += ":" + portText(port)
	}
	to += u.EscapedPath()
	if u.RawQuery != "" {
		to += "?" + cleanQuery(u.RawQuery)
	}
	return to
}
