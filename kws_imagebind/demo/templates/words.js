// The list of words is kept in the address, as in ?words=lamp,kettle, so that a page can be bookmarked and sent.
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
};
