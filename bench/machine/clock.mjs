/** Milliseconds of CLOCK_MONOTONIC: one clock for all processes of the machine. */
export function monotonicMs() {
  return Number(process.hrtime.bigint()) / 1e6
}
