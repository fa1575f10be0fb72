package main

const (
	stageCount = 10
	ringSize   = 503
	pairCount  = 8
)

func write(w chan<- uint64, n uint64) {
	for i := uint64(0); i < n; i++ {
		w <- i
	}
}

func sum(r <-chan uint64, n uint64) uint64 {
	sum := uint64(0)
	for i := uint64(0); i < n; i++ {
		sum += <-r
	}
	return sum
}

func oneToOne(n uint64) uint64 {
	c, answer := make(chan uint64), make(chan uint64)
	go write(c, n)
	go func() { answer <- sum(c, n) }()
	return <-answer
}

func pipeline(n uint64) uint64 {
	answer := make(chan uint64)
	last := make(chan uint64)
	go write(last, n)
	for s := 0; s < stageCount; s++ {
		r, w := last, make(chan uint64)
		go func() {
			for i := uint64(0); i < n; i++ {
				w <- <-r
			}
		}()
		last = w
	}
	go func() { answer <- sum(last, n) }()
	return <-answer
}

// Prefix sends 0, then copies; delta sends to the successor, then to the consumer.
func commstime(n uint64) uint64 {
	answer := make(chan uint64)
	delta, successor, prefix, consumer := make(chan uint64), make(chan uint64), make(chan uint64), make(chan uint64)
	go func() {
		delta <- 0
		for i := uint64(1); i < n; i++ {
			delta <- <-prefix
		}
		<-prefix
	}()
	go func() {
		for i := uint64(0); i < n; i++ {
			value := <-delta
			successor <- value
			consumer <- value
		}
	}()
	go func() {
		for i := uint64(0); i < n; i++ {
			prefix <- <-successor + 1
		}
	}()
	go func() { answer <- sum(consumer, n) }()
	return <-answer
}

// The token counts its hops; the one that made it counts the laps.
func ring(laps uint64) uint64 {
	answer := make(chan uint64)
	first := make(chan uint64)
	last := first
	for s := 1; s < ringSize; s++ {
		r, w := last, make(chan uint64)
		go func() {
			for i := uint64(0); i < laps; i++ {
				w <- <-r + 1
			}
		}()
		last = w
	}
	go func() {
		hops := uint64(0)
		for i := uint64(0); i < laps; i++ {
			first <- hops
			hops = <-last + 1
		}
		answer <- hops
	}()
	return <-answer
}

func pairs(n uint64) uint64 {
	sums := make(chan uint64)
	for p := 0; p < pairCount; p++ {
		c := make(chan uint64)
		go write(c, n)
		go func() { sums <- sum(c, n) }()
	}
	return sum(sums, pairCount)
}

// The leaves are a power of ten.
func skynet(leaves uint64) uint64 {
	answer := make(chan uint64)
	go node(answer, 0, leaves)
	return <-answer
}

func node(parent chan<- uint64, number, leaves uint64) {
	if leaves == 1 {
		parent <- number
		return
	}
	children, share := make(chan uint64), leaves/10
	for i := uint64(0); i < 10; i++ {
		go node(children, number+i*share, share)
	}
	parent <- sum(children, 10)
}
