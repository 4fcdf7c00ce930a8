package runtime

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTwoHundredEchoPods prints what pods cost; the bound is what the design promises: next to nothing.
func TestTwoHundredEchoPods(t *testing.T) {
	const pods = 200
	l := newLab(t)
	first := l.sandbox(podConfig("echo-first"))
	l.run(first, containerConfig("svcplane/echo"))
	l.get("http://" + l.ip(first) + ":8080/")
	before := privateMemory(t, l.shimProcess().PID)
	begin := time.Now()
	var addresses []string
	for i := range pods {
		pod := l.sandbox(podConfig(fmt.Sprintf("echo-%d", i)))
		l.run(pod, containerConfig("svcplane/echo"))
		addresses = append(addresses, l.ip(pod))
	}
	took := time.Since(begin)
	for i, ip := range addresses {
		if got := l.get("http://" + ip + ":8080/hostname"); got != fmt.Sprintf("echo-%d", i) {
			t.Fatalf("pod %d answers %q", i, got)
		}
	}
	after := privateMemory(t, l.shimProcess().PID)
	t.Logf("%d echo pods in %s (%s each); the shim's private memory: %d kB with one pod, %d kB with all, %d kB each",
		pods, took.Round(time.Millisecond), (took / pods).Round(10*time.Microsecond), before, after, (after-before)/pods)
	if each := (after - before) / pods; each > 200 {
		t.Errorf("an echo pod costs %d kB of the shim's memory, more than 200", each)
	}
}

// privateMemory is what a process has for itself, in kB.
func privateMemory(t *testing.T, pid int) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && strings.HasPrefix(fields[0], "Private_") {
			kb, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			total += kb
		}
	}
	return total
}
