using System.Globalization;
using System.Text;
using static Z1Coder.Trainer.Report.HtmlPage;

namespace Z1Coder.Trainer.Report;

/// <summary>Fractions with their intervals on one axis from 0 to 100 %, one row each, published figures beside them: inline SVG.</summary>
/// <param name="title">above it</param>
/// <param name="unit">below it</param>
/// <param name="marks">names of the published figures, in the order of their colours</param>
internal sealed class ScoreChart(string title, string unit, IReadOnlyList<string> marks)
{
    private const double Width = 720, RowHeight = 24, Left = 190, Right = 24, Top = 30, Bottom = 24;
    private const int TickEvery = 20;

    private readonly List<(string Name, double Value, double Low, double High, IReadOnlyList<(string Mark, double Percent)> Published)> _rows = [];

    /// <summary>Adds a row.</summary>
    /// <param name="name">left of it</param>
    /// <param name="value">fraction; a row without one is left out</param>
    /// <param name="low">end of its interval, fraction</param>
    /// <param name="high">the other</param>
    /// <param name="published">figures in percent</param>
    public void Add(string name, double value, double low, double high, IReadOnlyList<(string Mark, double Percent)> published)
    {
        if (double.IsFinite(value))
        {
            _rows.Add((name, value, low, high, published));
        }
    }

    /// <summary>The figure; empty where there is nothing to show.</summary>
    public string ToHtml()
    {
        if (_rows.Count == 0)
        {
            return "";
        }

        var height = Top + (_rows.Count * RowHeight) + Bottom;
        var svg = new StringBuilder();
        svg.Append($"<figure><svg viewBox=\"0 0 {F(Width)} {F(height)}\" role=\"img\" aria-label=\"{Html(title)}\"><text class=\"t\" x=\"0\" y=\"16\">{Html(title)}</text>");
        for (var percent = 0; percent <= 100; percent += TickEvery)
        {
            svg.Append($"<line class=\"g\" x1=\"{F(X(percent))}\" x2=\"{F(X(percent))}\" y1=\"{F(Top)}\" y2=\"{F(height - Bottom)}\"/>");
            svg.Append($"<text class=\"a\" text-anchor=\"middle\" x=\"{F(X(percent))}\" y=\"{F(height - 8)}\">{percent}</text>");
        }

        for (var r = 0; r < _rows.Count; r++)
        {
            var (name, value, low, high, published) = _rows[r];
            var y = Top + ((r + 0.5) * RowHeight);
            svg.Append($"<text text-anchor=\"end\" x=\"{F(Left - 10)}\" y=\"{F(y + 4)}\">{Html(name)}</text>");
            svg.Append($"<line class=\"s0\" stroke-width=\"2\" x1=\"{F(X(100 * low))}\" x2=\"{F(X(100 * high))}\" y1=\"{F(y)}\" y2=\"{F(y)}\"/>");
            svg.Append($"<circle class=\"c0\" r=\"4\" cx=\"{F(X(100 * value))}\" cy=\"{F(y)}\"/>");
            foreach (var (mark, percent) in published)
            {
                var x = X(percent);
                svg.Append($"<line class=\"s{Colour(mark)}\" stroke-width=\"3\" x1=\"{F(x)}\" x2=\"{F(x)}\" y1=\"{F(y - 8)}\" y2=\"{F(y + 8)}\"><title>{Html(mark)}</title></line>");
            }
        }

        svg.Append("</svg><figcaption><span class=\"k0\">this run, 95 % interval</span> ");
        foreach (var mark in marks.Where(m => _rows.Exists(r => r.Published.Any(p => p.Mark == m))))
        {
            svg.Append($"<span class=\"k{Colour(mark)}\">{Html(mark)}</span> ");
        }

        return svg.Append($"<small>{Html(unit)}</small></figcaption></figure>").ToString();
    }

    private int Colour(string mark) => 1 + (Math.Max(0, marks.ToList().IndexOf(mark)) % 5);

    private static double X(double percent) => Left + (percent / 100 * (Width - Left - Right));

    private static string F(double value) => value.ToString("0.#", CultureInfo.InvariantCulture);
}
