package serve

import (
	"log"
	"strings"

	"k8s.io/klog/v2"
)

// oneLine is what an error says for klog, which shows a value with line breaks as it is, and else escapes it: errors quote
// what endpoints and clients sent.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", `\n`) }

// klogAt makes a standard logger that writes to klog at a level.
func klogAt(level klog.Level) *log.Logger { return log.New(klogWriter(level), "", 0) }

type klogWriter klog.Level

func (l klogWriter) Write(p []byte) (int, error) {
	klog.V(klog.Level(l)).InfoS(strings.TrimSpace(string(p)))
	return len(p), nil
}
