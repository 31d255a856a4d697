using System.Globalization;
using System.Net;
using System.Text;

namespace Z1Coder.Trainer.Report;

/// <summary>Lines over steps as an inline SVG that scales with the page: no script, no network.</summary>
public sealed class LineChart(string title, string unit)
{
    private const double Width = 640, Height = 240, Left = 56, Right = 12, Top = 28, Bottom = 28;
    private const int Ticks = 5, MostPoints = 600;

    private readonly List<(string Name, IReadOnlyList<(double X, double Y)> Points)> _series = [];

    /// <summary>Adds a line; points that are not finite are left out.</summary>
    public LineChart Add(string name, IEnumerable<(double X, double Y)> points)
    {
        var finite = points.Where(p => double.IsFinite(p.Y)).ToList();
        if (finite.Count > 0)
        {
            var stride = Math.Max(1, finite.Count / MostPoints);
            _series.Add((name, [.. finite.Where((_, i) => i % stride == 0 || i == finite.Count - 1)]));
        }

        return this;
    }

    /// <summary>The figure; empty where there is nothing to show.</summary>
    public string ToHtml()
    {
        if (_series.Count == 0)
        {
            return "";
        }

        var all = _series.SelectMany(s => s.Points).ToList();
        var (x0, x1) = (all.Min(p => p.X), all.Max(p => p.X));
        var (y0, y1) = (Math.Min(0, all.Min(p => p.Y)), all.Max(p => p.Y));
        x1 = x1 > x0 ? x1 : x0 + 1;
        y1 = y1 > y0 ? y1 : y0 + 1;
        double X(double x) => Left + ((x - x0) / (x1 - x0) * (Width - Left - Right));
        double Y(double y) => Height - Bottom - ((y - y0) / (y1 - y0) * (Height - Top - Bottom));

        var svg = new StringBuilder();
        svg.Append($"<figure><svg viewBox=\"0 0 {Width} {Height}\" role=\"img\" aria-label=\"{Html(title)}\"><text class=\"t\" x=\"{Left}\" y=\"16\">{Html(title)}</text>");
        for (var i = 0; i < Ticks; i++)
        {
            var (y, x) = (y0 + ((y1 - y0) * i / (Ticks - 1)), x0 + ((x1 - x0) * i / (Ticks - 1)));
            svg.Append($"<line class=\"g\" x1=\"{Left}\" x2=\"{Width - Right}\" y1=\"{F(Y(y))}\" y2=\"{F(Y(y))}\"/>");
            svg.Append($"<text class=\"a\" text-anchor=\"end\" x=\"{Left - 6}\" y=\"{F(Y(y) + 4)}\">{Label(y)}</text>");
            svg.Append($"<text class=\"a\" text-anchor=\"middle\" x=\"{F(X(x))}\" y=\"{Height - 8}\">{Label(Math.Round(x))}</text>");
        }

        for (var s = 0; s < _series.Count; s++)
        {
            var points = string.Join(' ', _series[s].Points.Select(p => $"{F(X(p.X))},{F(Y(p.Y))}"));
            svg.Append($"<polyline class=\"s{s % 6}\" points=\"{points}\"/>");
            if (_series[s].Points.Count <= 40)
            {
                foreach (var (px, py) in _series[s].Points)
                {
                    svg.Append($"<circle class=\"c{s % 6}\" r=\"2.5\" cx=\"{F(X(px))}\" cy=\"{F(Y(py))}\"/>");
                }
            }
        }

        svg.Append("</svg><figcaption>");
        for (var s = 0; s < _series.Count; s++)
        {
            svg.Append($"<span class=\"k{s % 6}\">{Html(_series[s].Name)}</span> ");
        }

        return svg.Append($"<small>{Html(unit)}</small></figcaption></figure>").ToString();
    }

    private static string F(double value) => value.ToString("F1", CultureInfo.InvariantCulture);

    private static string Label(double value) => value.ToString(Math.Abs(value) is >= 10000 or (> 0 and < 0.001) ? "0.#E0" : "0.###", CultureInfo.InvariantCulture);

    private static string Html(string text) => WebUtility.HtmlEncode(text);
}
