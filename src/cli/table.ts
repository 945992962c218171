/**
 * Columns of text: fixed widths, so that a line can be printed before the next is known. Where the
 * terminal is narrow, columns shrink and the least important ones are left out; nothing ever wraps.
 */
import { pad } from './text-width.ts'

export interface Column<Row> {
  readonly title: string
  readonly width: number
  /** How narrow it may become; its width when omitted. */
  readonly minWidth?: number
  readonly align?: 'left' | 'right'
  /** Columns with the highest number are left out first; 0 always stays. */
  readonly dispensable?: number
  readonly text: (row: Row) => string
  /** Puts colours around the finished cell; must not change its width. */
  readonly paint?: (cell: string, row: Row) => string
}

const gap = '  '

/** The columns that fit in `width` cells, the first shrinking one narrowed as far as needed. */
export function columnsThatFit<Row>(
  columns: readonly Column<Row>[],
  width: number,
): readonly Column<Row>[] {
  let kept = columns
  while (widthOf(kept.map(narrowest)) > width) {
    const least = Math.max(...kept.map((column) => column.dispensable ?? 0))
    if (least === 0) break
    kept = kept.filter((column) => (column.dispensable ?? 0) !== least)
  }
  let excess = Math.max(0, widthOf(kept) - width)
  return kept.map((column) => {
    const narrowed = Math.max(narrowest(column).width, column.width - excess)
    excess -= column.width - narrowed
    return { ...column, width: narrowed }
  })
}

export function headerLine<Row>(columns: readonly Column<Row>[]): string {
  return columns
    .map(({ title, width, align }) => pad(title, width, align))
    .join(gap)
    .trimEnd()
}

export function rowLine<Row>(columns: readonly Column<Row>[], row: Row): string {
  return columns
    .map(({ text, width, align, paint }, index) => {
      const isLast = index === columns.length - 1
      const cell = pad(text(row), width, align)
      const tidy = isLast ? cell.trimEnd() : cell
      return paint === undefined ? tidy : paint(tidy, row)
    })
    .join(gap)
}

function narrowest<Row>(column: Column<Row>): { width: number } {
  return { width: column.minWidth ?? column.width }
}

function widthOf(columns: readonly { width: number }[]): number {
  return columns.reduce((sum, column) => sum + column.width + gap.length, -gap.length)
}
