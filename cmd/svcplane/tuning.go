package main

import (
	"os"
	"runtime/debug"
)

// Garbage collection while starting costs more time than the memory is worth; afterwards the process is to be
// small. docs/decisions.md has the numbers.
const (
	startGCPercent  = 400
	steadyGCPercent = 50
)

// boost lets the heap grow while the process starts.
func boost() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(startGCPercent)
	}
}

// boostEnded gives the garbage of the start back to the machine.
func boostEnded() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(steadyGCPercent)
	}
	go debug.FreeOSMemory()
}
