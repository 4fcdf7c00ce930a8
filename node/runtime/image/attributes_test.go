package image

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func attribute(t *testing.T, path, name string) string {
	t.Helper()
	value := make([]byte, 256)
	n, err := unix.Lgetxattr(path, name, value)
	if err != nil {
		return err.Error()
	}
	return string(value[:n])
}

// TestExtendedAttributes: capabilities stay with their file although its owner is set, and so do those of users.
func TestExtendedAttributes(t *testing.T) {
	const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	ping := file("ping", "x")
	ping.Uid, ping.Mode = 7, 0o755
	ping.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.comment": "hello"}
	target := filepath.Join(t.TempDir(), "layer")
	if err := unpackTar(t, tarOf(t, ping, link(tar.TypeLink, "ping2", "ping")), target); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ping", "ping2"} {
		if got := attribute(t, filepath.Join(target, name), "security.capability"); got != capability {
			t.Errorf("%s has the capabilities %q", name, got)
		}
	}
	probe := filepath.Join(target, "probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if unix.Setxattr(probe, "user.comment", nil, 0) == nil { // tmpfs has them since Linux 6.6
		if got := attribute(t, filepath.Join(target, "ping"), "user.comment"); got != "hello" {
			t.Errorf("user.comment is %q", got)
		}
	}
}

// gnuSparse is a file of so many bytes, of which the last ones are data, in the form of GNU tar (PAX 1.0).
func gnuSparse(t testing.TB, name string, size int, data string) []byte {
	t.Helper()
	var buf bytes.Buffer
	chart := "1\n" + strconv.Itoa(size-len(data)) + "\n" + strconv.Itoa(len(data)) + "\n"
	chart += strings.Repeat("\x00", 512-len(chart))
	w := tar.NewWriter(&buf)
	header := func(kind byte, name, body string, records string) {
		if records != "" {
			raw := make([]byte, 512)
			copy(raw, "PaxHeader")
			copy(raw[100:], "0000644\x00")
			copy(raw[124:], octal(len(records)))
			raw[156] = 'x'
			copy(raw[257:], "ustar\x0000")
			sum(raw)
			buf.Write(raw)
			buf.WriteString(records)
			buf.Write(make([]byte, (512-len(records)%512)%512))
		}
		raw := make([]byte, 512)
		copy(raw, name)
		copy(raw[100:], "0000644\x00")
		copy(raw[124:], octal(len(body)))
		raw[156] = kind
		copy(raw[257:], "ustar\x0000")
		sum(raw)
		buf.Write(raw)
		buf.WriteString(body)
		buf.Write(make([]byte, (512-len(body)%512)%512))
	}
	header('0', "GNUSparseFile.0/"+name, chart+data, record("GNU.sparse.major", "1")+record("GNU.sparse.minor", "0")+record("GNU.sparse.name", name)+record("GNU.sparse.realsize", strconv.Itoa(size)))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func octal(n int) string {
	text := make([]byte, 12)
	for i := 10; i >= 0; i-- {
		text[i], n = byte('0'+n%8), n/8
	}
	return string(text)
}

// record is one of a PAX header, whose length counts itself.
func record(key, value string) string {
	body := " " + key + "=" + value + "\n"
	n := len(body) + 1
	for len(strconv.Itoa(n))+len(body) != n {
		n = len(strconv.Itoa(n)) + len(body)
	}
	return strconv.Itoa(n) + body
}

func sum(raw []byte) {
	copy(raw[148:], "        ")
	total := 0
	for _, b := range raw {
		total += int(b)
	}
	copy(raw[148:], octal(total)[5:11])
	raw[154], raw[155] = 0, ' '
}

// TestSparseFiles: holes stay holes, those of a sparse archive and those that are zeros in it; and both can be written out
// as they came.
func TestSparseFiles(t *testing.T) {
	const size = 64 << 20
	zeros := file("zeros", strings.Repeat("\x00", size-3)+"end")
	for what, raw := range map[string][]byte{"sparse": gnuSparse(t, "zeros", size, "end"), "zeros": tarOf(t, zeros)} {
		dir := filepath.Join(t.TempDir(), "layer")
		keep, err := newKeeper(bytes.NewReader(raw), keptPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		if err := unpackLayer(keep, dir, false, limits{1 << 30, 10}); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := keep.close(); err != nil {
			t.Fatal(err)
		}
		var s unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, "zeros"), &s); err != nil || s.Size != size || s.Blocks*512 > 1<<20 {
			t.Errorf("%s: it has %d bytes and takes %d, %v", what, s.Size, s.Blocks*512, err)
		}
		f, err := os.Open(filepath.Join(dir, "zeros"))
		if err != nil {
			t.Fatal(err)
		}
		end := make([]byte, 4)
		if _, err := f.ReadAt(end, size-4); err != nil || string(end) != "\x00end" {
			t.Errorf("%s: it ends with %q, %v", what, end, err)
		}
		f.Close()
		var again bytes.Buffer
		if err := writeTar(&again, dir); err != nil || !bytes.Equal(again.Bytes(), raw) {
			t.Errorf("%s: written out there are %d bytes, not the %d that came: %v", what, again.Len(), len(raw), err)
		}
	}
}
