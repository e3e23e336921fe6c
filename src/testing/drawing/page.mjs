// eslint-disable-next-line @typescript-eslint/ban-ts-comment -- it runs in a browser, whose types nothing else here may see; a test opens it in one
// @ts-nocheck
/**
 * The page that `renderHtml` makes. Everything is drawn again for each frame, from sorted columns of numbers: a lane looks up
 * what is visible by bisection, and where more of it is visible than there are pixels it goes from pixel to pixel.
 */
(() => {
  const element = (id) => document.getElementById(id);
  const run = JSON.parse(element('run').textContent);
  const canvas = element('canvas');
  const context = canvas.getContext('2d');
  const titleWidth = 130;
  const rowHeight = 22;
  const barHeight = 15;
  const axisHeight = 24;
  const failedColor = '#e00000';
  const least = 10;

  const rows = run.devices.flatMap((device) => [
    { title: device.name },
    ...device.lanes.map((lane) => ({ ...lane, lane: lane.name, failed: new Set(lane.failed), longest: lane.at.reduce((most, at, index) => Math.max(most, lane.end[index] - at), 0) })),
  ]);
  /** What is shown, ns: a little more than all of the run. */
  const edge = Math.max(run.lengthNs * 0.01, least / 2);
  const all = { from: -edge, to: run.lengthNs + edge };
  let view = { ...all };
  let pointer;
  let wanted = false;

  const formatNs = (ns) => {
    const size = Math.abs(ns);
    const [divisor, unit] = size >= 1e9 ? [1e9, 's'] : size >= 1e6 ? [1e6, 'ms'] : size >= 1e3 ? [1e3, 'us'] : [1, 'ns'];
    // Further in, times that are one pixel apart are told apart.
    const decimals = Math.min(9, Math.max(3, Math.ceil(Math.log10((divisor * width()) / (view.to - view.from)))));
    return `${Number((ns / divisor).toFixed(decimals))}${unit}`;
  };
  /** The first index whose time is not before `ns`. */
  const firstFrom = (times, ns, low = 0) => {
    let high = times.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (times[middle] < ns) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  const width = () => canvas.clientWidth;
  const scale = () => (width() - titleWidth) / (view.to - view.from);
  const xOf = (ns) => titleWidth + (ns - view.from) * scale();
  const nsAt = (x) => view.from + (x - titleWidth) / scale();
  const yOf = (row) => axisHeight + row * rowHeight;

  function draw() {
    wanted = false;
    const ratio = window.devicePixelRatio || 1;
    const height = axisHeight + rows.length * rowHeight + 8;
    canvas.style.height = `${height}px`;
    if (canvas.width !== Math.round(width() * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width() * ratio);
      canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = '#fff';
    context.fillRect(0, 0, width(), height);
    context.font = '11px monospace';
    context.textBaseline = 'middle';
    drawAxis(height);
    context.save();
    context.beginPath();
    context.rect(titleWidth, axisHeight, width() - titleWidth, height);
    context.clip();
    rows.forEach((row, index) => row.lane !== undefined && drawLane(row, yOf(index)));
    context.restore();
    rows.forEach((row, index) => {
      context.fillStyle = row.lane === undefined ? '#000' : row.color;
      context.font = row.lane === undefined ? 'bold 12px monospace' : '11px monospace';
      context.fillText(row.title ?? row.lane, row.lane === undefined ? 8 : 18, yOf(index) + rowHeight / 2);
    });
    element('range').textContent = `${formatNs(Math.max(0, view.from))} to ${formatNs(Math.min(run.lengthNs, view.to))} of ${formatNs(run.lengthNs)}`;
    say();
  }

  function drawAxis(height) {
    const most = (width() - titleWidth) / 90;
    let step = 1;
    for (let decade = 1; (view.to - view.from) / step > most; decade *= 10) for (const one of [decade, 2 * decade, 5 * decade]) if ((view.to - view.from) / step > most) step = one;
    for (let ns = Math.ceil(view.from / step) * step; ns <= view.to; ns += step) {
      const x = xOf(ns);
      context.fillStyle = '#eee';
      context.fillRect(x, 16, 1, height);
      context.fillStyle = '#666';
      context.fillText(formatNs(ns), x + 3, 10);
    }
  }

  function drawLane(row, y) {
    const { at, end, label, failed, color, longest } = row;
    context.fillStyle = '#eee';
    context.fillRect(titleWidth, y + rowHeight / 2, width(), 1);
    const top = y + (rowHeight - barHeight) / 2;
    // What began before the view may still last in it.
    const first = firstFrom(at, view.from - longest);
    const last = firstFrom(at, view.to);
    if (last - first > 2 * width()) return drawCrowd(row, first, last, top);
    let group = { x: -Infinity, count: 0 };
    for (let index = first; index < last; index += 1) {
      if (end[index] < view.from) continue;
      const x = xOf(at[index]);
      const wide = Math.max(2, xOf(end[index]) - x);
      context.fillStyle = failed.has(index) ? failedColor : color;
      context.fillRect(x, top, wide, barHeight);
      // What stands in one place has one name and a count.
      if (x - group.x > 2) group = { x, count: 0, text: run.texts[label[index]] };
      group.count += 1;
      const next = index + 1 < last ? xOf(at[index + 1]) : width();
      if (next - group.x <= 2) continue;
      const text = group.count > 1 ? `${group.text} (${group.count})` : group.text;
      const lasts = end[index] > at[index];
      const left = Math.max(x, titleWidth);
      const inside = lasts && text.length * 6.7 + 4 <= x + wide - left;
      // Behind its bar, where it does not fit into that.
      const behind = lasts ? Math.max(left, x + wide) + 2 : left + 4;
      if (!inside && text.length * 6.7 > next - behind) continue;
      context.fillStyle = inside ? '#fff' : '#222';
      context.fillText(text, inside ? left + 3 : behind, y + rowHeight / 2 + 1);
    }
  }

  /** One bar a pixel, as high as it is crowded, on a scale of its own lane. */
  function drawCrowd({ at, failed, color }, first, last, top) {
    const counts = [];
    let most = 1;
    for (let x = titleWidth, index = first; x < width() && index < last; x += 1) {
      const next = Math.min(firstFrom(at, nsAt(x + 1), index), last);
      counts.push([x, index, next]);
      most = Math.max(most, next - index);
      index = next;
    }
    for (const [x, from, to] of counts) {
      if (from === to) continue;
      const high = Math.max(3, (barHeight * (to - from)) / most);
      context.fillStyle = color;
      context.fillRect(x, top + barHeight - high, 1, high);
    }
    context.fillStyle = failedColor;
    let drawn;
    for (const index of failed) {
      const x = Math.floor(xOf(at[index]));
      if (index < first || index >= last || x === drawn) continue;
      context.fillRect(x, top + barHeight - 3, 1, 3);
      drawn = x;
    }
  }

  /** The mark under the pointer: one that lasts there, else the nearest within a few pixels. */
  function under({ x, y }) {
    const row = rows[Math.floor((y - axisHeight) / rowHeight)];
    if (row?.lane === undefined || x < titleWidth) return undefined;
    const ns = nsAt(x);
    const reach = 6 / scale();
    const first = firstFrom(row.at, ns - row.longest - reach);
    const last = firstFrom(row.at, ns + reach);
    let best;
    let far = reach;
    // Of very many, the last few hundred: they are nearest.
    for (let index = last - 1; index >= first && index > last - 2000; index -= 1) {
      const distance = ns < row.at[index] ? row.at[index] - ns : Math.max(0, ns - row.end[index]);
      if (distance < far || (distance === 0 && best === undefined)) {
        best = index;
        far = distance;
        if (distance === 0) break;
      }
    }
    return best === undefined ? undefined : { row, index: best };
  }

  function say() {
    const found = pointer === undefined ? undefined : under(pointer);
    if (found === undefined) {
      element('value').textContent = pointer === undefined || pointer.x < titleWidth ? '' : formatNs(nsAt(pointer.x));
      return;
    }
    const { row, index } = found;
    // Everything that stands in the same place, in its order.
    const near = 2 / scale();
    const from = firstFrom(row.at, row.at[index] - near);
    const to = firstFrom(row.at, row.at[index] + near);
    const here = to - from > 1 && row.end[index] === row.at[index] ? Array.from({ length: Math.min(to - from, 5) }, (_, n) => from + n) : [index];
    const lines = here.map((one) => {
      const lasted = row.end[one] > row.at[one] ? `, for ${formatNs(row.end[one] - row.at[one])}` : '';
      return `${row.lane} at ${formatNs(row.at[one])}${lasted}: ${run.texts[row.label[one]]}\n${run.texts[row.detail[one]]}`;
    });
    if (here.length > 1 && to - from > here.length) lines.push(`and ${to - from - here.length} more here`);
    element('value').textContent = lines.join('\n');
  }

  function show(from, to) {
    const length = Math.min(Math.max(to - from, least), all.to - all.from);
    const start = Math.min(Math.max(from, all.from), all.to - length);
    view = { from: start, to: start + length };
    redraw();
  }
  const zoom = (factor, ns) => show(ns - (ns - view.from) * factor, ns + (view.to - ns) * factor);
  const move = (ns) => show(view.from + ns, view.to + ns);
  function redraw() {
    if (wanted) return;
    wanted = true;
    requestAnimationFrame(draw);
  }

  let drag;
  canvas.addEventListener('wheel', (event) => {
    if (event.shiftKey) return;
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(event.deltaX / scale());
    else zoom(Math.exp(event.deltaY / 300), nsAt(event.offsetX));
  }, { passive: false });
  canvas.addEventListener('pointerdown', (event) => {
    drag = { x: event.offsetX, view };
    canvas.setPointerCapture(event.pointerId);
    canvas.focus();
  });
  canvas.addEventListener('pointerup', () => (drag = undefined));
  canvas.addEventListener('pointermove', (event) => {
    pointer = { x: event.offsetX, y: event.offsetY };
    if (drag === undefined) return say();
    const ns = (drag.x - pointer.x) / scale();
    show(drag.view.from + ns, drag.view.to + ns);
  });
  canvas.addEventListener('pointerleave', () => {
    pointer = undefined;
    say();
  });
  canvas.addEventListener('dblclick', () => show(all.from, all.to));
  window.addEventListener('keydown', ({ key }) => {
    const middle = pointer === undefined ? (view.from + view.to) / 2 : nsAt(pointer.x);
    const step = (view.to - view.from) / 5;
    if (key === '+' || key === '=') zoom(0.5, middle);
    else if (key === '-') zoom(2, middle);
    else if (key === 'ArrowLeft') move(-step);
    else if (key === 'ArrowRight') move(step);
    else if (key === '0') show(all.from, all.to);
  });
  window.addEventListener('resize', redraw);
  draw();
})();
