package http1

import "slices"

// Verb is a method as it is counted: an index of Methods, or OtherMethod, since clients make up methods.
type Verb uint8

// OtherMethod stands for all that are not in Methods.
const OtherMethod = Verb(len(Methods))

// VerbOf is how a method is counted.
func VerbOf(method string) Verb {
	if i := slices.Index(Methods[:], method); i >= 0 {
		return Verb(i)
	}
	return OtherMethod
}

// String is the method, or "other".
func (v Verb) String() string {
	if v == OtherMethod {
		return "other"
	}
	return Methods[v]
}
