// The networks of `workers`, in Go: unbuffered channels, as many workers as GOMAXPROCS.
//
// Started with a row, the number of workers, a size (0: whatever fills a sample), the nanoseconds of a sample, and whether
// there is a run that does not count; prints size, nanoseconds, those of the processor, and the answer.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

var rows = map[string]func(n uint64) uint64{
	"one-to-one":    oneToOne,
	"pipeline":      pipeline,
	"commstime":     commstime,
	"ring":          ring,
	"pairs":         pairs,
	"bytes":         bytes,
	"round-trip":    roundTrip,
	"spawn":         spawn,
	"spawn-million": spawnMillion,
	"skynet":        skynet,
	"stages":        stages,
	"hog":           hog,
	"fan-out":       fanOut,
	"idle":          func(n uint64) uint64 { return outside(100, n) },
	"job":           func(n uint64) uint64 { return outside(1, n) },
}

type sample struct {
	n         uint64
	wall      time.Duration
	processor time.Duration
	answer    uint64
}

// Others may hold it up on the wall; that it has two processors must not count for less.
func (s sample) time() float64 {
	if s.wall < s.processor {
		return float64(s.wall)
	}
	return float64(s.processor)
}

func main() {
	if len(os.Args) != 6 {
		fail("usage: ROW WORKERS SIZE NANOSECONDS WARM-UP")
	}
	row, known := rows[os.Args[1]]
	if !known {
		fail("no such row: " + os.Args[1])
	}
	workers, size, long := number(os.Args[2]), number(os.Args[3]), float64(number(os.Args[4]))
	runtime.GOMAXPROCS(int(workers))
	var s sample
	if size > 0 {
		if os.Args[5] == "true" {
			once(row, size)
		}
		s = once(row, size)
	} else {
		n := uint64(1)
		s = once(row, n)
		for s.time() <= long/8 {
			n *= 4
			s = once(row, n)
		}
		n = uint64(float64(n) * long / s.time())
		if n == 0 {
			n = 1
		}
		s = once(row, n)
	}
	fmt.Println(s.n, s.wall.Nanoseconds(), s.processor.Nanoseconds(), s.answer)
}

func once(row func(uint64) uint64, n uint64) sample {
	start, processor := time.Now(), processorTime()
	answer := row(n)
	return sample{n, time.Since(start), processorTime() - processor, answer}
}

func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail(err.Error())
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		fail(err.Error())
	}
	return n
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(1)
}
