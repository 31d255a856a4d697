using System.Globalization;
using System.Net;

namespace Z1Coder.Trainer.Report;

/// <summary>What every page shares: one file without script that fetches nothing, light or dark as the reader's system is.</summary>
internal static class HtmlPage
{
    private const int LongestText = 20_000;

    /// <summary>What comes after the last element.</summary>
    public const string End = "</main></body></html>\n";

    /// <summary>What comes before the first element.</summary>
    /// <param name="title">of the window</param>
    /// <param name="heading">of the page</param>
    public static string Begin(string title, string heading) =>
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
        + $"<title>{Html(title)}</title><style>{Style}</style></head><body><main><h1>{Html(heading)}</h1>";

    /// <summary>Text, whatever it holds, as text of an element or value of an attribute in double quotes.</summary>
    public static string Html(string text) => WebUtility.HtmlEncode(text);

    /// <summary>A number as a reader wants it, with the whole of it for a program.</summary>
    public static string Figure(double value, string shown) =>
        $"<data value=\"{value.ToString("R", CultureInfo.InvariantCulture)}\">{Html(shown)}</data>";

    /// <summary>A fraction in percent with one place, the whole of it for a program; a dash where there is none.</summary>
    public static string Percent(double fraction) =>
        double.IsNaN(fraction) ? "–" : Figure(fraction, (100 * fraction).ToString("F1", CultureInfo.InvariantCulture));

    /// <summary>A text in its own box; one longer than a reader takes is cut in the middle, and says so.</summary>
    public static string Pre(string text, string? style = null)
    {
        var shown = text.Length <= LongestText ? Html(text)
            : $"{Html(text[..(LongestText / 2)])}\n<small>… {text.Length - LongestText} characters are left out …</small>\n{Html(text[^(LongestText / 2)..])}";
        return $"<pre{(style is null ? "" : $" class=\"{style}\"")}>\n{shown}</pre>";        // a parser drops the line feed after the tag, not the text's own
    }

    private const string Style = """
        :root{color-scheme:light dark;--fg:#1c1f24;--bg:#fff;--mute:#667;--line:#d9dde3;--box:#f5f6f8}
        @media(prefers-color-scheme:dark){:root{--fg:#e6e8eb;--bg:#14171a;--mute:#9aa3ad;--line:#31363d;--box:#1d2126}}
        body{margin:0;font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg)}main{max-width:72rem;margin:auto;padding:1rem}
        h1{font-size:1.6rem;overflow-wrap:anywhere}h3{font-size:1rem;margin:1rem 0 .3rem}h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}
        table{border-collapse:collapse}th{font-weight:500;white-space:nowrap}td,th{vertical-align:top;padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:left;font-variant-numeric:tabular-nums}
        .two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem}.two>div{min-width:0}details details{margin-left:1rem}
        .w{overflow-x:auto}pre{background:var(--box);padding:.7rem;overflow-x:auto;font-size:13px;white-space:pre-wrap;overflow-wrap:anywhere}
        pre.q{border-left:3px solid #4878cf}details{margin:.4rem 0}summary{cursor:pointer}small,figcaption{color:var(--mute)}
        .charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr));gap:1rem}figure{margin:0}svg{width:100%;height:auto}
        svg text{fill:var(--fg);font-size:11px}svg .t{font-size:13px;font-weight:600}svg .a{fill:var(--mute)}svg .g{stroke:var(--line)}
        polyline{fill:none;stroke-width:1.6}.s0{stroke:#4878cf}.s1{stroke:#e08a1e}.s2{stroke:#3a9a5b}.s3{stroke:#c44e52}.s4{stroke:#8b6bb1}.s5{stroke:#7a7a7a}
        .c0{fill:#4878cf}.c1{fill:#e08a1e}.c2{fill:#3a9a5b}.c3{fill:#c44e52}.c4{fill:#8b6bb1}.c5{fill:#7a7a7a}
        figcaption span{margin-right:.8rem}figcaption span::before{content:"";display:inline-block;width:.8em;height:.2em;margin-right:.3em;vertical-align:middle}
        .k0::before{background:#4878cf}.k1::before{background:#e08a1e}.k2::before{background:#3a9a5b}.k3::before{background:#c44e52}.k4::before{background:#8b6bb1}.k5::before{background:#7a7a7a}
        """;
}
