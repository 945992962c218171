import type { AttemptFact } from '@k-msg/webhook'
import { describe, expect, it } from 'vitest'
import { Board, boardColumns } from '../../src/cli/board.ts'
import { coloursFor } from '../../src/cli/colour.ts'
import { duration } from '../../src/cli/figures.ts'
import { noticesOnly } from '../../src/cli/notices.ts'
import { Screen } from '../../src/cli/screen.ts'
import { summaryLines } from '../../src/cli/send-summary.ts'
import { columnsThatFit, headerLine, rowLine } from '../../src/cli/table.ts'
import { displayWidth, pad, printable, truncate } from '../../src/cli/text-width.ts'
import { languageOf, wordsOf } from '../../src/cli/words.ts'

describe('width of text in a terminal', () => {
  it.each([
    ['message.sent', 12],
    ['안녕하세요', 10],
    ['주문 1건', 8],
    // The same two syllables, taken apart into their letters as macOS writes file names.
    ['한글'.normalize('NFD'), 4],
    ['漢字', 4],
    ['ｗｉｄｅ', 8],
    ['é', 1],
    ['e\u0301', 1],
    ['🎉', 2],
    ['👨‍👩‍👧', 2],
    ['', 0],
  ])('%s takes %i cells', (text, width) => {
    expect(displayWidth(text)).toBe(width)
  })

  it('cuts between characters and never takes more than its cells', () => {
    expect(truncate('안녕하세요', 10)).toBe('안녕하세요')
    expect(truncate('안녕하세요', 6)).toBe('안녕…')
    expect(truncate('안녕하세요', 5)).toBe('안녕…')
    expect(truncate('abcdef', 1)).toBe('…')
    expect(truncate('abcdef', 0)).toBe('')
    for (let width = 0; width <= 12; width += 1) {
      expect(displayWidth(pad('가a나b다c라', width))).toBe(width)
      expect(displayWidth(pad('가', width, 'right'))).toBe(width)
    }
  })

  it('lets no foreign text move the cursor or turn the direction of writing', () => {
    expect(printable('a\x1b[2Jb\r\nc\u202ed')).toBe('a�[2Jb��c�d')
  })
})

const fact: AttemptFact = {
  deliveryId: 'dlv_1',
  eventId: 'demo_123456_01',
  eventType: 'analytics.threshold_exceeded',
  endpointId: 'filtered',
  tenantId: null,
  attempt: 2,
  outcome: 'unreachable',
  httpStatus: null,
  error: null,
  latencyMs: 12.4,
  nextAttemptAt: new Date(5_000),
  deliveries: 1,
}

describe('the table', () => {
  const colours = coloursFor({ isTTY: false })

  it.each(['en', 'ko'] as const)('is never wider than the terminal, in %s', (language) => {
    const words = wordsOf[language]
    const row = { fact, signature: 'valid' as const }
    for (let width = 60; width <= 140; width += 1) {
      const columns = columnsThatFit(
        boardColumns(words, colours, () => 0),
        width,
      )
      expect(displayWidth(headerLine(columns))).toBeLessThanOrEqual(width)
      expect(displayWidth(rowLine(columns, row))).toBeLessThanOrEqual(width)
    }
  })

  it('starts every cell below its title', () => {
    for (const words of Object.values(wordsOf)) {
      const columns = boardColumns(words, colours, () => 0)
      const title = headerLine(columns)
      const cells = rowLine(columns, { fact, signature: 'valid' })
      const startOf = (line: string, text: string): number =>
        displayWidth(line.slice(0, line.indexOf(text)))
      expect(startOf(cells, 'filtered')).toBe(startOf(title, words.endpoint))
      expect(startOf(cells, 'unreachable')).toBe(startOf(title, words.status))
      expect(startOf(cells, words.verdicts.valid)).toBe(startOf(title, words.signature))
    }
  })

  it('shows every endpoint, however busy one of them is', () => {
    const board = new Board(['a', 'b', 'c'])
    const put = (endpointId: string, count: number): void => {
      for (let index = 0; index < count; index += 1) {
        const deliveryId = `${endpointId}${index}`
        board.put({ fact: { ...fact, endpointId, deliveryId }, signature: null })
      }
    }
    put('c', 100)
    put('a', 5)
    put('b', 1)
    const shown = board.fairly(9).map((row) => row.fact.deliveryId)
    expect(shown).toEqual(['a1', 'a2', 'a3', 'a4', 'b0', 'c96', 'c97', 'c98', 'c99'])
    expect(board.fairly(2)).toHaveLength(2)
  })
})

describe('the summary of send', () => {
  it('says what to do in the language of its labels, too', () => {
    const result = {
      ...{ accepted: 5, duplicates: 0, badLines: 0, delivered: 0, failed: 5, failedEarlier: 0 },
      ...{ cancelled: 0, waiting: 0, retries: 0, elapsedMs: 1, deliveredPerSecond: 0 },
      reasons: ['address_blocked', 'status_401', 'gone', 'a', 'b'].map((one) => [one, 1] as const),
      latency: { p50: 1, p99: 1 },
    }
    for (const stopped of [true, false]) {
      const lines = summaryLines(result, { stopped, data: 'x.db', words: wordsOf.ko })
      expect(lines).toHaveLength(10)
      for (const line of lines) expect(line).toMatch(/[가-힣]/)
      expect(lines.join()).toContain('그 밖의 이유 2가지')
      expect(lines.join()).toContain(stopped ? '중단했습니다' : '--retry-failed')
    }
  })
})

describe('a notice', () => {
  it.each([
    [{ encryption: 'none' }, 'A sentence is enough.', ['note: A sentence is enough.']],
    [{ error: 'no disk' }, 'it went wrong', ['note: it went wrong: no disk']],
    // The name of a fact says nothing without whose it is.
    [
      { endpoint: 'shop', stage: 'early', disable_at: undefined },
      'endpoint.failing',
      ['note: endpoint.failing endpoint=shop stage=early'],
    ],
    [{ schedule_s: 7 }, 'known', []],
    [{ ready: false, error: 'x' }, 'not started', []],
  ])('of %j: %s', (fields, message, expected) => {
    const told: string[] = []
    noticesOnly((notice) => told.push(notice)).warn(fields, message)
    expect(told).toEqual(expected)
  })
})

describe('the screen', () => {
  it('draws over what it drew, and never more lines than there are', () => {
    const written: string[] = []
    const output = { columns: 40, rows: 6, write: (text: string) => written.push(text) }
    const screen = new Screen(output)
    screen.draw(['1', '2', '3', '4', '5', '6', '7'])
    expect(written.at(-1)?.split('\n')).toHaveLength(6)
    screen.draw(['a'])
    expect(written.at(-1)).toContain('\x1b[5A\r')
    screen.draw(['a'])
    expect(written.at(-1)).toContain('\x1b[1A\r')
  })
})

it.each([
  [0.2, '<1 ms'],
  [83.3, '83 ms'],
  [999.9, '1 s'],
  [2_500, '2.5 s'],
  [300_000, '5 min'],
  [36_000_000, '10 h'],
  [86_400_000, '1 d'],
])('says %d ms as %s', (ms, text) => {
  expect(duration(ms)).toBe(text)
})

it.each([
  [{ LANG: 'ko_KR.UTF-8' }, 'ko'],
  [{ LANG: 'C', LC_ALL: 'ko_KR' }, 'ko'],
  [{ LANG: 'ko_KR.UTF-8', LC_ALL: 'C' }, 'en'],
  [{ LANG: 'kok_IN' }, 'en'],
  [{}, 'en'],
])('reads the language from %j', (env, language) => {
  expect(languageOf(env)).toBe(language)
})
