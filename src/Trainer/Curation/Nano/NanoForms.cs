namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>The table of self-invoking forms.</summary>
internal static class NanoForms
{
    public static readonly NanoForm[] All =
    [
        new("rowsmax", NanoFamily.List, "rows", "max([{f}(row) for row in rows], default=0)",
            "the largest {f}(row) over the rows or 0", "the maximum of {f} over all rows or 0 if there are none"),
        new("rowsmin", NanoFamily.List, "rows", "min([{f}(row) for row in rows], default=0)",
            "the smallest {f}(row) over the rows or 0", "the minimum of {f} over all rows or 0 if there are none"),
        new("rowssum", NanoFamily.List, "rows", "sum([{f}(row) for row in rows])",
            "the sum of {f}(row) over the rows", "the total of {f} over all rows"),
        new("rowscount", NanoFamily.List, "rows", "len([row for row in rows if {f}(row) > {c}])",
            "the count of rows with {f}(row) greater than {c}", "how many rows have {f} above {c}"),
        new("pairsum", NanoFamily.List, "xs, ys", "{f}(xs) + {f}(ys)", "{f}(xs) plus {f}(ys)", "the sum of {f}(xs) and {f}(ys)"),
        new("pairdifference", NanoFamily.List, "xs, ys", "{f}(xs) - {f}(ys)",
            "{f}(xs) minus {f}(ys)", "the difference of {f}(xs) and {f}(ys)"),
        new("pairgreater", NanoFamily.List, "xs, ys", "{f}(xs) > {f}(ys)",
            "whether {f}(xs) is greater than {f}(ys)", "True if {f}(xs) is above {f}(ys)"),
        new("halves", NanoFamily.List, "xs", "{f}(xs[:len(xs) // 2]) + {f}(xs[len(xs) // 2:])",
            "{f} of the first half plus {f} of the second half", "the sum of {f} on both halves"),
        new("prefixes", NanoFamily.List, "xs", "sum([{f}(xs[:i + 1]) for i in range(len(xs))])",
            "the sum of {f} over all prefixes", "the total of {f} on every prefix"),
        new("atleast", NanoFamily.List, "xs", "max({f}(xs), {c})", "{f}(xs) but at least {c}", "the larger of {f}(xs) and {c}"),
        new("times", NanoFamily.List, "xs", "{f}(xs) * {c}", "{f}(xs) times {c}", "{f}(xs) multiplied by {c}"),
        new("eachsum", NanoFamily.Choice, "xs", "sum([{f}(x) for x in xs])",
            "the sum of {f}(x) over xs", "the total of {f} over all numbers of xs"),
        new("eachmax", NanoFamily.Choice, "xs", "max([{f}(x) for x in xs], default=0)",
            "the largest {f}(x) over xs or 0", "the maximum of {f} over all numbers of xs or 0 if there are none"),
        new("eachcount", NanoFamily.Choice, "xs", "len([x for x in xs if {f}(x) > {c}])",
            "the count of x in xs with {f}(x) greater than {c}", "how many x in xs have {f} above {c}"),
        new("twice", NanoFamily.Choice, "x", "{f}({f}(x))", "{f} applied twice to x", "{f} of {f}(x)"),
        new("plus", NanoFamily.Choice, "x", "{f}(x) + {c}", "{f}(x) plus {c}", "{f}(x) increased by {c}"),
    ];
}
