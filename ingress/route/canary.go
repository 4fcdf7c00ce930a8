package route

// Takes says whether a canary takes a request, as ingress-nginx documents it: the header decides first, then the cookie,
// then the weight, by roll, a number below n for any n.
func (c *Canary) Takes(v View, roll func(n int) int) bool {
	if c.Header != "" {
		value := v.Header(c.Header)
		switch {
		case c.HeaderValue != "":
			if value == c.HeaderValue {
				return true
			}
		case c.HeaderPattern != nil:
			if c.HeaderPattern.MatchString(value) {
				return true
			}
		case value == "always":
			return true
		case value == "never":
			return false
		}
	}
	if c.Cookie != "" {
		switch v.Cookie(c.Cookie) {
		case "always":
			return true
		case "never":
			return false
		}
	}
	return c.Weight > 0 && roll(c.Total) < c.Weight
}
