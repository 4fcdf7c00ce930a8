package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"k8s.io/klog/v2"

	"svcplane/systemd"
)

// Process is a server process as the command starts it.
type Process struct {
	DataDir   string
	Verbosity int
	Out       io.Writer // gets the ready line
	// Configure checks the choices against the machine.
	Configure func(Host) (*Config, error)

	signals signals
	manager *systemd.Manager
}

// Run serves until ctx ends. Where another start is what mends it, the process begins again in its own place.
func (p *Process) Run(ctx context.Context) error {
	p.manager = systemd.Take()
	defer p.signals.outlive()()
	err := p.abortable(ctx)
	var restart *again
	if errors.As(err, &restart) {
		return beginAgain(p.manager.Environ())
	}
	return err
}

// startAborts is how long a start that is asked to stop may take to come to a place where it can.
const startAborts = 10 * time.Second

// abortable serves until ctx ends. A start may be in a call that nothing interrupts, a disk that does not answer or a lock
// that somebody else has: it is left behind then.
func (p *Process) abortable(ctx context.Context) error {
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- p.serve(ctx, ready) }()
	defer context.AfterFunc(ctx, func() { p.manager.Tell(systemd.Stopping, systemd.Status("stopping")) })()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case <-ready:
		return <-ended
	case err := <-ended:
		return err
	case <-time.After(startAborts):
		return nil
	}
}

// serve checks everything that can be checked, takes what it needs of the machine, runs until ctx ends
// and stops in the reverse order. Until the checks have passed nothing on the machine is changed.
func (p *Process) serve(ctx context.Context, ready chan<- struct{}) (err error) {
	began := time.Now()
	log := setUpLogging(p.Verbosity)
	slow := time.AfterFunc(slowStart, log.reveal)
	defer slow.Stop()
	if os.Geteuid() != 0 {
		return errors.New("server must run as root: it makes network namespaces and links: use sudo")
	}
	host, err := ReadHost(p.DataDir)
	if err != nil {
		return err
	}
	cfg, err := p.Configure(host)
	if err != nil {
		return err
	}
	reserved, err := reserve(ctx, cfg, host)
	if err != nil {
		return err
	}
	stopped := true
	defer func() {
		if stopped { // else the API would take the end of its listener for a fault
			reserved.release()
		}
	}()
	s, err := newServer(ctx, cfg, reserved)
	if err != nil && ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return withSpace(cfg.DataDir, err)
	}
	defer func() { stopped = s.stop() }()
	p.signals.onHangup(s.reopenLogs)
	if err := s.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop while starting
		}
		log.spill()
		return err
	}
	close(ready)
	slow.Stop()
	log.open()
	defer log.close()
	go tuneCollector(ctx)
	logShares(s.shares, cfg.Ingress)
	if _, err := fmt.Fprintf(p.Out, "svcplane ready in %d ms (%s)\n", time.Since(began).Milliseconds(), s.summary()); err != nil {
		klog.ErrorS(err, "The ready line could not be printed: whoever started the server does not read it") // others are served
	}
	p.manager.Tell(systemd.Ready, systemd.Status("serving: "+s.summary()))
	defer s.keepReporting(ctx, p.manager)()
	return s.parts.wait(ctx)
}

// reopenLogs is what SIGHUP asks for. What klog writes goes to standard error, which is the starter's.
func (s *Server) reopenLogs() {
	if s.node.accessLog == nil {
		return
	}
	if err := s.node.accessLog.reopen(); err != nil {
		klog.ErrorS(err, "SIGHUP")
	}
}
