package http1

import "strings"

// Get is the first value of a field; nil: there is none.
func (h *RequestHead) Get(name string) []byte {
	for _, f := range h.Fields[:h.N] {
		if sameName(f.Name, name) {
			return f.Value
		}
	}
	return nil
}

// Cookie is the value of a cookie (RFC 6265 section 5.4); empty: there is none.
func (h *RequestHead) Cookie(name string) string {
	for _, f := range h.Fields[:h.N] {
		if !IsName(f.Name, "cookie") {
			continue
		}
		for part := range strings.SplitSeq(Text(f.Value), ";") {
			if key, value, found := strings.Cut(strings.TrimSpace(part), "="); found && key == name {
				return strings.Trim(value, `"`)
			}
		}
	}
	return ""
}

// Del removes a field.
func (h *RequestHead) Del(name string) { h.N = without(h.Fields[:h.N], name) }

// Add drops what does not fit: whoever calls it looks.
func (h *RequestHead) Add(name, value string) {
	if h.N < len(h.Fields) {
		h.Fields[h.N] = field{Bytes(name), Bytes(value)}
		h.N++
	}
}

// Set replaces a field, or adds it.
func (h *RequestHead) Set(name, value string) {
	h.Del(name)
	h.Add(name, value)
}

// Del removes a field.
func (h *ResponseHead) Del(name string) { h.N = without(h.Fields[:h.N], name) }

// Add has spareFields to fill.
func (h *ResponseHead) Add(name, value string) {
	if h.N < len(h.Fields) {
		h.Fields[h.N] = field{Bytes(name), Bytes(value)}
		h.N++
	}
}

// Set replaces a field, or adds it.
func (h *ResponseHead) Set(name, value string) {
	h.Del(name)
	h.Add(name, value)
}

// without removes a field from fields and returns how many are left.
func without(fields []field, name string) int {
	n := 0
	for _, f := range fields {
		if !sameName(f.Name, name) {
			fields[n] = f
			n++
		}
	}
	return n
}

func sameName(b []byte, name string) bool {
	return len(b) == len(name) && strings.EqualFold(Text(b), name)
}
