using System.Globalization;
using System.Text;
using static Z1Coder.Trainer.Report.HtmlPage;

namespace Z1Coder.Trainer.Report;

/// <summary>Lines over steps as an inline SVG that scales with the page: no script, no network.</summary>
/// <param name="title">above it</param>
/// <param name="unit">below it</param>
/// <param name="logarithmic">decades on the vertical axis where the values span enough of them</param>
public sealed class LineChart(string title, string unit, bool logarithmic = false)
{
    private const double Width = 460, Height = 220, Left = 52, Right = 20, Top = 28, Bottom = 26, LeastRatio = 20;
    private const int MostTicks = 6, MostPoints = 600;

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
        var (x0, x1) = (0.0, Math.Max(1, all.Max(p => p.X)));
        var (low, high) = (all.Min(p => p.Y), all.Max(p => p.Y));
        var decades = logarithmic && low > 0 && high / low > LeastRatio;
        var (y0, y1) = decades ? (Math.Log10(low), Math.Log10(high)) : (Math.Min(0, low), high);
        y1 = y1 > y0 ? y1 : y0 + 1;
        double X(double x) => Left + ((x - x0) / (x1 - x0) * (Width - Left - Right));
        double Y(double y) => Height - Bottom - (((decades ? Math.Log10(y) : y) - y0) / (y1 - y0) * (Height - Top - Bottom));

        var svg = new StringBuilder();
        svg.Append($"<figure><svg viewBox=\"0 0 {Width} {Height}\" role=\"img\" aria-label=\"{Html(title)}\"><text class=\"t\" x=\"{Left}\" y=\"16\">{Html(title)}</text>");
        foreach (var y in decades ? Decades(low, high) : Ticks(y0, y1))
        {
            svg.Append($"<line class=\"g\" x1=\"{Left}\" x2=\"{Width - Right}\" y1=\"{F(Y(y))}\" y2=\"{F(Y(y))}\"/>");
            svg.Append($"<text class=\"a\" text-anchor=\"end\" x=\"{Left - 6}\" y=\"{F(Y(y) + 4)}\">{Label(y)}</text>");
        }

        foreach (var x in Ticks(x0, x1))
        {
            svg.Append($"<text class=\"a\" text-anchor=\"middle\" x=\"{F(X(x))}\" y=\"{Height - 8}\">{Label(x)}</text>");
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

    /// <summary>Round numbers within the bounds, 1, 2 or 5 times a power of ten apart.</summary>
    private static IEnumerable<double> Ticks(double low, double high)
    {
        var power = Math.Pow(10, Math.Floor(Math.Log10((high - low) / MostTicks)));
        var step = new[] { 1, 2, 5, 10 }.Select(m => m * power).First(s => (high - low) / s <= MostTicks);
        for (var i = Math.Ceiling(low / step); i * step <= high; i++)
        {
            yield return i * step;
        }
    }

    /// <summary>1, 2 and 5 times the powers of ten within the bounds; the powers alone where that is too many.</summary>
    private static IEnumerable<double> Decades(double low, double high)
    {
        var steps = Math.Log10(high / low) > 2.5 ? new[] { 1.0 } : [1, 2, 5];
        for (var e = Math.Floor(Math.Log10(low)); e <= Math.Log10(high); e++)
        {
            foreach (var value in steps.Select(m => m * Math.Pow(10, e)).Where(v => v >= low && v <= high))
            {
                yield return value;
            }
        }
    }

    private static string Label(double value) => Math.Abs(value) switch
    {
        0 => "0",
        >= 1e6 => (value / 1e6).ToString("0.###", CultureInfo.InvariantCulture) + "M",
        >= 1e4 => (value / 1e3).ToString("0.###", CultureInfo.InvariantCulture) + "k",
        < 1e-4 => value.ToString("0.##E-0", CultureInfo.InvariantCulture),
        _ => value.ToString("0.#####", CultureInfo.InvariantCulture),
    };
}
