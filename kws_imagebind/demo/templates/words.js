// All tabs have the same list of words, and the address keeps it, as in ?words=lamp,kettle, so that a page can be
// bookmarked and sent.
window.kwsWords = {
  longest: 4000, // letters; a longer list stays out of the address
  read(words) {
    return new URLSearchParams(location.search).get("words") ?? words;
  },
  keep(words) {
    const address = new URL(location.href);
    const listed = words.split(/[,;\n]/).map((word) => word.trim()).filter(Boolean).join(",");
    address.searchParams.delete("words");
    if (listed && listed.length <= this.longest) address.searchParams.set("words", listed);
    address.search = address.search.replaceAll("%2C", ",");
    history.replaceState(history.state, "", address);
    return words;
  },
  // A box changes where somebody types, and where another box has changed it: only the first is passed on.
  typed(box, words) {
    return document.activeElement?.closest(`#${box}`) ? this.keep(words) : { __type__: "update" };
  },
};
