// The results of all rounds, and the two questions asked of them.

import { median } from './numbers.mjs'

export class Results {
  #rows = []

  add(round, step, values) {
    const { measurement, endpoints } = step
    this.#rows.push({ round, measurement, endpoints, contender: step.contender.name, values })
  }

  /** The median over the rounds of `read(values)`. */
  of(measurement, endpoints, contender, read) {
    const rows = this.#find(measurement, endpoints, contender)
    return median(rows.map((row) => read(row.values)).filter((value) => value !== undefined))
  }

  /**
   * How many times `a` is `b`: the median of the ratios of each round, because the two of a round
   * ran minutes apart and the rounds did not.
   */
  ratio(a, b, read) {
    const ratios = []
    for (const one of this.#find(...a)) {
      const other = this.#find(...b).find((row) => row.round === one.round)
      if (other) ratios.push(read(one.values) / read(other.values))
    }
    return median(ratios)
  }

  has(measurement, endpoints) {
    return this.#rows.some((row) => row.measurement === measurement && row.endpoints === endpoints)
  }

  #find(measurement, endpoints, contender) {
    return this.#rows.filter(
      (row) =>
        row.measurement === measurement &&
        row.endpoints === endpoints &&
        row.contender === contender,
    )
  }
}
