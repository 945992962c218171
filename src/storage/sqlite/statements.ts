/** How many rows one hot insert carries: 16 gave 15 % over single rows, 50 gave no more. */
export const rowsAtOnce = 16

/** The same insert for `rowsAtOnce` rows. Expects the row's values last but for a conflict clause. */
export function forManyRows(insertOfOneRow: string): string {
  return insertOfOneRow.replace(/values (\([^()]*\))/, (_, row: string) => {
    return `values ${Array(rowsAtOnce).fill(row).join(', ')}`
  })
}
