// A table that is kept up to date: rows and cells stay the same elements, so that reading and selecting are not disturbed.
// On a narrow screen its rows become cards (page.css). Roles are said, because such a display takes a table's meaning away.

const RESORT = 5000;

class Table {
  // Columns are { head, text(row) or fill(cell, row), number, by(row) }; those with `by` can be sorted by.
  constructor(host, { caption, columns, id, few = Infinity, what = "", by = null, none = "none", look = "" }) {
    Object.assign(this, { columns, id, few, what, by, none, rows: new Map(), order: [], all: [], sortedAt: 0, isWhole: false });
    this.body = make("tbody", { role: "rowgroup" });
    this.heads = columns.map((column) => this.head(column));
    this.empty = make("p", { class: "none" }, none);
    this.more = make("button", { type: "button", class: "more", "aria-expanded": "false" });
    this.more.addEventListener("click", () => {
      this.isWhole = !this.isWhole;
      this.show(this.all);
    });
    host.append(make("table", { role: "table", class: look }, make("caption", { class: "hidden" }, caption),
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...this.heads)), this.body), this.empty, this.more);
  }

  head(column) {
    const head = make("th", { scope: "col", role: "columnheader", class: column.number ? "number" : "" });
    if (!column.by) return head.append(column.head), head;
    const button = make("button", { type: "button" }, column.head);
    button.addEventListener("click", () => {
      this.by = column;
      this.sortedAt = 0;
      this.show(this.all);
    });
    head.append(button);
    return head;
  }

  show(rows) {
    this.all = rows;
    const sorted = this.sorted(rows);
    const shown = this.isWhole ? sorted : sorted.slice(0, this.few);
    const elements = shown.map((row) => this.row(row));
    if (elements.some((element, n) => element !== this.body.children[n]) || elements.length !== this.body.children.length) {
      this.body.replaceChildren(...elements);
    }
    this.rows = new Map(shown.map((row, n) => [this.id(row), elements[n]]));
    this.empty.hidden = rows.length > 0;
    this.more.hidden = rows.length <= this.few;
    set(this.more, { "aria-expanded": this.isWhole });
    say(this.more, this.isWhole ? `Show only ${this.few} ${this.what}` : `Show all ${rows.length} ${this.what}`);
  }

  // Highest first. The order is looked at only every few seconds: rows that change places all the time cannot be read.
  sorted(rows) {
    if (!this.by) return rows;
    for (const [n, column] of this.columns.entries()) {
      if (column.by) set(this.heads[n], { "aria-sort": column === this.by ? "descending" : "none" });
    }
    if (performance.now() - this.sortedAt > RESORT || !this.sortedAt) {
      this.order = [...rows].sort((a, b) => this.by.by(b) - this.by.by(a)).map(this.id);
      this.sortedAt = performance.now();
    }
    const place = new Map(this.order.map((id, n) => [id, n]));
    const at = (row) => place.get(this.id(row)) ?? Infinity;
    return [...rows].sort((a, b) => at(a) - at(b) || 0);
  }

  row(row) {
    const element = this.rows.get(this.id(row)) || make("tr", { role: "row" }, ...this.columns.map((column, n) => cell(column, n === 0)));
    this.columns.forEach((column, n) => {
      const to = element.children[n];
      if (column.fill) column.fill(to, row);
      else say(to, column.text(row));
    });
    return element;
  }
}

function cell(column, isHead) {
  const kind = isHead ? { scope: "row", role: "rowheader" } : { role: "cell", "data-label": column.head };
  return make(isHead ? "th" : "td", { ...kind, class: (column.number ? "number " : "") + (column.look || "") });
}
