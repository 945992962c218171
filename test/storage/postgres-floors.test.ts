import { expect, it } from 'vitest'
import { Floors } from '../../src/storage/postgres/floors.ts'

const room = { endpointKey: 'a', limit: 10, batch: null }
const nowMs = 1_000_000

function floors() {
  const known = new Floors()
  // The first look at a lane has none.
  expect(known.of({ ...room, headMs: nowMs }, nowMs)).toBe(0)
  return known
}

it('looks a little below the head, and from the beginning once a minute', () => {
  const known = floors()
  expect(known.of({ ...room, headMs: nowMs - 5 }, nowMs)).toBe(nowMs - 5 - 10_000)
  expect(known.of({ ...room, headMs: Number.POSITIVE_INFINITY }, nowMs)).toBe(nowMs - 10_000)
  expect(known.of(room, nowMs)).toBe(0)
  const later = nowMs + 60_000
  expect(known.of({ ...room, headMs: later }, later)).toBe(0)
  expect(known.of({ ...room, headMs: later }, later)).toBe(later - 10_000)
  // A clock that was set back.
  expect(known.of({ ...room, headMs: nowMs }, nowMs)).toBe(0)
})

it('looks less far where claims are slow, to a second at the least, and as far as before after', () => {
  const known = floors()
  const below = (ms: number) => {
    known.took(ms)
    return nowMs - known.of({ ...room, headMs: nowMs }, nowMs)
  }
  expect([31, 20, 31, 31, 31, 31].map(below)).toEqual([5_000, 5_000, 2_500, 1_250, 1_000, 1_000])
  expect([14, 14, 14, 14].map(below)).toEqual([2_000, 4_000, 8_000, 10_000])
})

it('looks as far as what was given back, once', () => {
  const known = floors()
  known.gaveBack('a', 500)
  known.gaveBack('a', 700)
  known.gaveBack('b', 300)
  expect(known.of({ ...room, headMs: nowMs }, nowMs)).toBe(500)
  expect(known.of({ ...room, headMs: nowMs }, nowMs)).toBe(nowMs - 10_000)
})
