//go:build race

package gateway_test

// memoryFactor is how many times the memory a process takes with the race
// detector on.
const memoryFactor = 10
