package serve

import "testing"

// TestHashes: known pairs of the formats that are not bcrypt.
func TestHashes(t *testing.T) {
	for hash, password := range map[string]string{
		"$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/": "myPassword",
		"{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=":     "test",
	} {
		if !verify(hash, password) || verify(hash, password+"x") {
			t.Errorf("%s", hash)
		}
	}
}
