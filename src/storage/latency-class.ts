/**
 * Latencies are counted in classes, so that percentiles of a million deliveries are a sum of a few
 * rows. Class n covers [1.25^n, 1.25^(n+1)) ms: a percentile is right to within 12 %.
 */
const growth = Math.log(1.25)
const lastClass = 60

/** @param latencyMs time of one attempt, ≥ 0 @returns 0 … 60 */
export function latencyClass(latencyMs: number): number {
  if (latencyMs <= 1) return 0
  return Math.min(lastClass, Math.floor(Math.log(latencyMs) / growth))
}

/** The middle of a class in ms. */
export function latencyOfClass(index: number): number {
  return 1.25 ** (index + 0.5)
}
