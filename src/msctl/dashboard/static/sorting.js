// Sorting of tables: an order is a column's name, with a minus for the other direction ("-p95").
export const columnOf = (order) => order.replace(/^-/, '');
export const isDown = (order) => order.startsWith('-');

// Missing values come last in either direction; texts are compared as people number them ("job-2" before "job-10").
export function sorted(rows, order, values) {
  const value = values[columnOf(order)];
  if (!value) return rows;
  const sign = isDown(order) ? -1 : 1, missing = (v) => v === null || v === undefined || v === '';
  return rows.map((row, i) => [row, value(row), i]).sort(([, a, i], [, b, j]) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b) || i - j;
    const by = typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b), 'en', { numeric: true });
    return sign * by || i - j;
  }).map(([row]) => row);
}

// A click sorts by a column, numbers from the largest; a second one turns the order around.
export function next(order, column, numeric) {
  if (columnOf(order) === column) return isDown(order) ? column : `-${column}`;
  return numeric ? `-${column}` : column;
}

// Makes buttons of the heads with data-sort; `get` and `set` hold the order.
export function sortable(head, get, set) {
  const mark = () => {
    for (const cell of head.querySelectorAll('[data-sort]')) {
      const mine = columnOf(get()) === cell.dataset.sort;
      cell.setAttribute('aria-sort', !mine ? 'none' : isDown(get()) ? 'descending' : 'ascending');
    }
  };
  for (const cell of head.querySelectorAll('[data-sort]')) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'sort';
    button.append(...cell.childNodes);
    button.addEventListener('click', () => { set(next(get(), cell.dataset.sort, cell.classList.contains('num'))); mark(); });
    cell.append(button);
  }
  mark();
  return mark;
}
