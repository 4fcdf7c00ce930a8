package http1

import "strings"

// FieldList are the fields of a head.
type FieldList struct {
	Fields []field // of which the first N are there
	N      int
}

type field struct{ Name, Value []byte }

// Get is the first value of a field; nil: there is none.
func (l *FieldList) Get(name string) []byte {
	for _, f := range l.Fields[:l.N] {
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
func (l *FieldList) Del(name string) { l.N = without(l.Fields[:l.N], name) }

// Add drops what does not fit: a request that may lack a field is left to net/http, and an answer has spareFields to fill.
func (l *FieldList) Add(name, value string) {
	if l.N < len(l.Fields) {
		l.Fields[l.N] = field{Bytes(name), Bytes(value)}
		l.N++
	}
}

// Set replaces a field, or adds it.
func (l *FieldList) Set(name, value string) {
	l.Del(name)
	l.Add(name, value)
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
