module fibra/benches

go 1.19
