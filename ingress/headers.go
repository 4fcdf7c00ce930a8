package ingress

import "strings"

// get is the first value of a field; nil: there is none.
func (h *fastHead) get(name string) []byte {
	for _, f := range h.fields[:h.n] {
		if sameName(f.name, name) {
			return f.value
		}
	}
	return nil
}

// cookie is the value of a cookie (RFC 6265 section 5.4); empty: there is none.
func (h *fastHead) cookie(name string) string {
	for _, f := range h.fields[:h.n] {
		if !isName(f.name, "cookie") {
			continue
		}
		for part := range strings.SplitSeq(text(f.value), ";") {
			if key, value, found := strings.Cut(strings.TrimSpace(part), "="); found && key == name {
				return strings.Trim(value, `"`)
			}
		}
	}
	return ""
}

func (h *fastHead) Del(name string) { h.n = without(h.fields[:h.n], name) }

// Add drops what does not fit: whoever calls it looks.
func (h *fastHead) Add(name, value string) {
	if h.n < len(h.fields) {
		h.fields[h.n] = field{textBytes(name), textBytes(value)}
		h.n++
	}
}

func (h *fastHead) Set(name, value string) {
	h.Del(name)
	h.Add(name, value)
}

func (h *answerHead) Del(name string) { h.n = without(h.fields[:h.n], name) }

// Add has spareFields to fill.
func (h *answerHead) Add(name, value string) {
	if h.n < len(h.fields) {
		h.fields[h.n] = field{textBytes(name), textBytes(value)}
		h.n++
	}
}

func (h *answerHead) Set(name, value string) {
	h.Del(name)
	h.Add(name, value)
}

// without removes a field from fields and returns how many are left.
func without(fields []field, name string) int {
	n := 0
	for _, f := range fields {
		if !sameName(f.name, name) {
			fields[n] = f
			n++
		}
	}
	return n
}

func sameName(b []byte, name string) bool {
	return len(b) == len(name) && strings.EqualFold(text(b), name)
}
