/** Whether an endpoint answers: the run of failures that may end in its being disabled. */

export interface EndpointHealth {
  readonly endpointKey: string
  /** Raised by every write; who saw an older one begins again. 0: never written. */
  readonly revision: number
  /** The first failure since the last success; null while there is none. */
  readonly failingSinceMs: number | null
  readonly lastFailedAtMs: number
  /** Different hours of the clock in which an attempt failed. */
  readonly failedHours: number
  /** Deliveries that ended without success. */
  readonly failedDeliveries: number
  /** Who has been told: nobody, early (`failing`), or shortly before the end (`final`). */
  readonly warned: 'no' | 'early' | 'final'
  readonly warnedAtMs: number
  /** What failed before this says nothing about now. */
  readonly clearedAtMs: number
}
