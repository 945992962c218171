// Medians, percentiles and how they are written.

export const median = (values) => percentile(values, 0.5)

/** Nearest rank. @param share 0.99 for p99, 1 for the greatest */
export function percentile(values, share) {
  if (values.length === 0) return undefined
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]
}

/** Three significant digits below 100, whole numbers above; a dash for what was not measured. */
export function show(value) {
  if (value === undefined || Number.isNaN(value)) return '–'
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US')
  return String(Number(value.toPrecision(3)))
}
