package measure

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func TestUseOfAProcess(t *testing.T) {
	command := exec.Command("sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 600 & echo ready; wait")
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		_ = command.Wait() // it was killed
	}()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	u, ok := p.Below(command.Process.Pid)
	if !ok || u.CPU < tick || u.Memory < 100<<10 || u.Anonymous == 0 || u.Anonymous > u.Memory || u.Processes != 2 || u.Threads != 2 {
		t.Errorf("the shell and its child use %+v, %v", u, ok)
	}
	if _, ok := p.Below(1 << 30); ok {
		t.Error("a process that is not there uses something")
	}
	if _, ok := p.Inside(os.Getpid()); ok {
		t.Error("everything on the machine was taken for a container")
	}
}

func TestNamesOfCommandsHoldAnything(t *testing.T) {
	s, err := parseStat([]byte("7 (a) 9 (b\n) S 3 7 7 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 5 0 99 1 2\n"))
	if err != nil || s.parent != 3 || s.threads != 5 || s.cpu != 1240*time.Millisecond {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := parseStat([]byte("7 (a) S 3")); err == nil {
		t.Error("half of a line was read")
	}
}

func TestLinksOfANamespace(t *testing.T) {
	all, err := parseLinks([]byte(`Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0
  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0
`))
	want := Link{Name: "eth0", Received: 1000, ReceiveErrors: 1, Sent: 2000, SendErrors: 3}
	if err != nil || len(all) != 1 || all[0] != want {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := Links(); err != nil {
		t.Error(err)
	}
}

func TestMachine(t *testing.T) {
	m, err := ReadMachine()
	if err != nil || m.CPU <= 0 || m.Memory == 0 || m.Memory >= m.Present || m.Started.After(time.Now()) || m.Started.Year() < 2000 {
		t.Errorf("%+v, %v", m, err)
	}
}
