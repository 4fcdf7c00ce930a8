package route

import "strings"

// apply is the path to send, escaped, for a request of a route with path. The rest is taken from what the client
// sent, so that its escapes stay.
func (rw *Rewrite) apply(route string, p Path) (Path, error) {
	rest := afterElements(p.Sent, strings.Count(strings.TrimSuffix(route, "/"), "/")) // "" or begins with a slash
	to := rw.To
	switch rw.Mode {
	case RewritePrefix:
		if rest != "" && rest != "/" || strings.HasSuffix(p.Sent, "/") {
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
	return CleanPath(to)
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
