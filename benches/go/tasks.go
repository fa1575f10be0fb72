package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	batch         = 100
	others        = 100
	consumers     = 8
	stageMicros   = 100
	workMicros    = 20
	hogMicros     = 20000
	stepsPerMicro = 650
	noMore        = ^uint64(0)
)

var sink uint64

//go:noinline
func compute(value, micros uint64) uint64 {
	x := value | 1
	for i := uint64(0); i < micros*stepsPerMicro; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	if x == 0 { // which it never is; nobody but us knows
		atomic.AddUint64(&sink, x)
	}
	return value
}

// Children run in batches, from a goroutine.
func spawn(n uint64) uint64 {
	answer := make(chan uint64)
	go func() {
		var ran sync.WaitGroup
		for i := uint64(0); i < n; i++ {
			ran.Add(batch)
			for c := 0; c < batch; c++ {
				go ran.Done()
			}
			ran.Wait()
		}
		answer <- n * batch
	}()
	return <-answer
}

func spawnMillion(n uint64) uint64 {
	answer := make(chan uint64)
	go func() {
		var ran sync.WaitGroup
		ran.Add(int(n))
		for i := uint64(0); i < n; i++ {
			go ran.Done()
		}
		ran.Wait()
		answer <- n
	}()
	return <-answer
}

func stages(n uint64) uint64 {
	c, answer := make(chan uint64), make(chan uint64)
	go func() {
		for i := uint64(0); i < n; i++ {
			c <- compute(i, stageMicros)
		}
	}()
	go func() {
		sum := uint64(0)
		for i := uint64(0); i < n; i++ {
			sum += compute(<-c, stageMicros)
		}
		answer <- sum
	}()
	return <-answer
}

// Answers with nanoseconds from when the others are ready until the last of them has run, all n times together.
func hog(n uint64) uint64 {
	answer := make(chan uint64)
	go func() {
		total := int64(0)
		for i := uint64(0); i < n; i++ {
			var ran sync.WaitGroup
			var took int64
			ran.Add(others)
			start := time.Now()
			for c := 0; c < others; c++ {
				go func() {
					mine := int64(time.Since(start))
					for seen := atomic.LoadInt64(&took); mine > seen; seen = atomic.LoadInt64(&took) {
						if atomic.CompareAndSwapInt64(&took, seen, mine) {
							break
						}
					}
					ran.Done()
				}()
			}
			compute(i, hogMicros)
			ran.Wait()
			total += took
		}
		answer <- uint64(total)
	}()
	return <-answer
}

func fanOut(n uint64) uint64 {
	c, sums := make(chan uint64), make(chan uint64)
	go func() {
		write(c, n)
		for i := 0; i < consumers; i++ {
			c <- noMore
		}
	}()
	for i := 0; i < consumers; i++ {
		go func() {
			sum := uint64(0)
			for value := <-c; value != noMore; value = <-c {
				sum += compute(value, workMicros)
			}
			sums <- sum
		}()
	}
	return sum(sums, consumers)
}

func roundTrip(n uint64) uint64 {
	there, back, answer := make(chan uint64), make(chan uint64), make(chan uint64)
	go func() {
		runtime.LockOSThread()
		for i := uint64(0); i < n; i++ {
			back <- <-there + 1
		}
	}()
	go func() {
		value := uint64(0)
		for i := uint64(0); i < n; i++ {
			there <- value
			value = <-back
		}
		answer <- value
	}()
	return <-answer
}

// Goroutines that wait for somebody who sleeps, in a thread of his own.
func outside(count, milliseconds uint64) uint64 {
	woken := make(chan uint64)
	events := make([]chan uint64, count)
	for i := range events {
		event := make(chan uint64, 1)
		events[i] = event
		go func() { woken <- <-event }()
	}
	go func() {
		runtime.LockOSThread()
		time.Sleep(time.Duration(milliseconds) * time.Millisecond)
		for _, event := range events {
			event <- 1
		}
	}()
	return sum(woken, count)
}

// Answers with the bytes that became resident while goroutines were started and parked.
func bytes(n uint64) uint64 {
	channels := make([]chan uint64, n)
	for i := range channels { // filled, so that the pages are resident before the count begins
		channels[i] = nil
	}
	before := resident()
	var ran sync.WaitGroup
	for i := range channels {
		c := make(chan uint64)
		channels[i] = c
		ran.Add(1)
		go func() {
			ran.Done()
			<-c
		}()
		if i%128 == 127 || i == len(channels)-1 {
			ran.Wait()
		}
	}
	after := resident()
	runtime.KeepAlive(channels)
	return after - before
}

func resident() uint64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		fail(err.Error())
	}
	pages, err := strconv.ParseUint(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		fail(err.Error())
	}
	return pages * uint64(os.Getpagesize())
}
