// Numbers and times as people read them.

const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
const plain = new Intl.NumberFormat(LANGUAGE);
const percent = new Intl.NumberFormat(LANGUAGE, { style: "percent", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(LANGUAGE, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium", timeStyle: "medium" });

/** A number in three digits or a few more: 7.25, 72.5, 725. */
function digits(value) {
  const places = value >= 100 || value === 0 ? 0 : value >= 10 ? 1 : 2;
  return value.toLocaleString(LANGUAGE, { minimumFractionDigits: places, maximumFractionDigits: places });
}

/** Bytes in powers of a thousand, as links and disks are counted: "1.53 MB". */
function bytes(count) {
  let unit = 0;
  while (count >= 999.5 && unit < BYTE_UNITS.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${unit ? digits(count) : plain.format(Math.round(count))} ${BYTE_UNITS[unit]}`;
}

function rate(count) {
  return `${bytes(count)}/s`;
}

function milliseconds(value) {
  return `${digits(value)} ms`;
}

/** A time span in one unit, or two where one would be coarse: "12 s", "3 min", "2 h 10 min", "4 d 3 h". */
function span(seconds) {
  const { second, minute, hour, day } = words.units;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} ${second}`;
  if (whole < 3600) return `${Math.floor(whole / 60)} ${minute}`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} ${hour} ${Math.floor((whole % 3600) / 60)} ${minute}`;
  return `${Math.floor(whole / 86400)} ${day} ${Math.floor((whole % 86400) / 3600)} ${hour}`;
}

/** The next number above ``value`` that is 1, 2 or 5 times a power of ten. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}
