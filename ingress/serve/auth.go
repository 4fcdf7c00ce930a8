package serve

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/ingress/route"
)

// maxVerified bounds how many proven credentials are remembered, so that bcrypt is not computed for each request.
const maxVerified = 1024

// users are names and password hashes. It is safe for concurrent use.
type users struct {
	hashes map[string]string

	mu       sync.Mutex
	verified map[[sha256.Size]byte]bool
}

// readUsers reads a Secret; nil when nobody can log in, with the reason.
func readUsers(key types.NamespacedName, secret *corev1.Secret) (*users, route.Problem) {
	if secret == nil || len(secret.Data[route.AuthKey]) == 0 {
		return nil, route.Problem{Reason: "AuthSecretNotFound", Message: fmt.Sprintf(
			"there is no Secret %s with the key %s: every request is answered 401; create it (htpasswd -B -c auth NAME; kubectl create secret generic %s --from-file=auth)", key, route.AuthKey, key.Name)}
	}
	u := &users{hashes: map[string]string{}, verified: map[[sha256.Size]byte]bool{}}
	for n, line := range strings.Split(string(secret.Data[route.AuthKey]), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, hash, found := strings.Cut(line, ":")
		if !found || !knownHash(hash) {
			return nil, route.Problem{Reason: "AuthSecretInvalid", Message: fmt.Sprintf(
				"line %d of the key %s in Secret %s is not name:hash with a hash of bcrypt, apr1 or SHA: every request is answered 401; make it with htpasswd -B", n+1, route.AuthKey, key)}
		}
		u.hashes[name] = hash
	}
	return u, route.Problem{}
}

func knownHash(hash string) bool {
	for _, prefix := range []string{"$2a$", "$2b$", "$2y$", "$apr1$", "{SHA}"} {
		if strings.HasPrefix(hash, prefix) {
			return true
		}
	}
	return false
}

// check says whether a name and password are those of a user.
func (u *users) check(name, password string) bool {
	if u == nil {
		return false
	}
	hash, known := u.hashes[name]
	if !known {
		// the same work as for a known name, so that time does not tell which names exist
		_ = bcrypt.CompareHashAndPassword([]byte("$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"), []byte(password))
		return false
	}
	proof := sha256.Sum256([]byte(hash + "\x00" + password))
	u.mu.Lock()
	proven := u.verified[proof]
	u.mu.Unlock()
	if proven {
		return true
	}
	if !verify(hash, password) {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.verified) >= maxVerified {
		clear(u.verified)
	}
	u.verified[proof] = true
	return true
}

func verify(hash, password string) bool {
	switch {
	case strings.HasPrefix(hash, "$apr1$"):
		salt, _, _ := strings.Cut(hash[len("$apr1$"):], "$")
		return same(apr1(password, salt), hash)
	case strings.HasPrefix(hash, "{SHA}"):
		sum := sha1.Sum([]byte(password))
		return same("{SHA}"+base64.StdEncoding.EncodeToString(sum[:]), hash)
	}
	return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// apr1 is Apache's variant of the MD5 crypt: what `openssl passwd -apr1` and old htpasswd write.
func apr1(password, salt string) string {
	salt = salt[:min(len(salt), 8)]
	inner := md5.Sum([]byte(password + salt + password))
	text := password + "$apr1$" + salt
	for i := len(password); i > 0; i -= md5.Size {
		text += string(inner[:min(i, md5.Size)])
	}
	for i := len(password); i > 0; i >>= 1 {
		if i&1 == 1 {
			text += "\x00"
		} else {
			text += password[:1]
		}
	}
	sum := md5.Sum([]byte(text))
	for i := range 1000 {
		sum = apr1Round(i, password, salt, sum)
	}
	return "$apr1$" + salt + "$" + apr1Text(sum)
}

func apr1Round(i int, password, salt string, sum [md5.Size]byte) [md5.Size]byte {
	first, last := string(sum[:]), password
	if i&1 == 1 {
		first, last = last, first
	}
	middle := ""
	if i%3 != 0 {
		middle += salt
	}
	if i%7 != 0 {
		middle += password
	}
	return md5.Sum([]byte(first + middle + last))
}

func apr1Text(sum [md5.Size]byte) string {
	const digits = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var out []byte
	put := func(v uint, n int) {
		for range n {
			out = append(out, digits[v&63])
			v >>= 6
		}
	}
	for _, t := range [][3]int{{0, 6, 12}, {1, 7, 13}, {2, 8, 14}, {3, 9, 15}, {4, 10, 5}} {
		put(uint(sum[t[0]])<<16|uint(sum[t[1]])<<8|uint(sum[t[2]]), 4)
	}
	put(uint(sum[11]), 2)
	return string(out)
}
