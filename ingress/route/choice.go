package route

import "hash/fnv"

// Choice is how an endpoint is chosen for one request.
type Choice struct {
	Balance Balance
	Pinned  uint64 // id of the endpoint that a cookie names; 0: none
	Hash    uint64 // of what keeps a request with an endpoint
	Hashed  bool
}

// of is the part of a request that keeps it with an endpoint.
func (s HashSource) of(r *Request) string {
	switch s.Of {
	case HashURI:
		return r.Path.Sent + "?" + r.RawQuery
	case HashPath:
		return r.Path.Sent
	case HashHost:
		return Host(r.Host)
	case HashHeader:
		return r.Header(s.Name)
	case HashQuery:
		return r.Query(s.Name)
	case HashCookie:
		return r.Cookie(s.Name)
	}
	return r.Client.String()
}

// Mix spreads the bits of v (the finalizer of splitmix64).
func Mix(v uint64) uint64 {
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}

// Hash is the same for the same text in every process, so that hashes survive a restart.
func Hash(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // a hash does not fail
	return Mix(h.Sum64())
}
