using System.Globalization;

namespace Z1Coder.Runtime;

/// <summary>Slurm's short form of many host names: <c>gpu[01-03,7],login2</c> is gpu01, gpu02, gpu03, gpu7, login2. Several brackets in
/// one name
/// count like digits, the last one first.</summary>
internal static class Hostlist
{
    private const int MostHosts = 1 << 16;

    /// <summary>Every host, in order.</summary>
    /// <exception cref="FormatException">it is no host list; one sentence</exception>
    public static List<string> Expand(string list)
    {
        var hosts = new List<string>();
        for (var start = 0; start <= list.Length;)
        {
            var end = EndOfName(list, start);
            var name = list[start..end].Trim();
            if (name.Length == 0)
            {
                throw new FormatException($"'{list}' is no host list: a name is empty");
            }

            Expand(list, "", name, hosts);
            start = end + 1;
        }

        return hosts;
    }

    /// <summary>The comma that ends a name stands outside brackets.</summary>
    private static int EndOfName(string list, int start)
    {
        var depth = 0;
        for (var i = start; i < list.Length; i++)
        {
            depth += list[i] switch { '[' => 1, ']' => -1, _ => 0 };
            if (depth is < 0 or > 1)
            {
                throw new FormatException($"'{list}' is no host list: its brackets do not match");
            }

            if (list[i] == ',' && depth == 0)
            {
                return i;
            }
        }

        return depth == 0 ? list.Length : throw new FormatException($"'{list}' is no host list: its brackets do not match");
    }

    private static void Expand(string list, string head, string rest, List<string> hosts)
    {
        var open = rest.IndexOf('[', StringComparison.Ordinal);
        if (open < 0)
        {
            if (hosts.Count == MostHosts)
            {
                throw new FormatException($"'{list}' names more than {MostHosts} hosts");
            }

            hosts.Add(head + rest);
            return;
        }

        var close = rest.IndexOf(']', open);
        foreach (var range in rest[(open + 1)..close].Split(','))
        {
            var dash = range.IndexOf('-', StringComparison.Ordinal);
            var (low, high) = dash < 0 ? (range, range) : (range[..dash], range[(dash + 1)..]);
            if (!int.TryParse(low, NumberStyles.None, CultureInfo.InvariantCulture, out var first)
                || !int.TryParse(high, NumberStyles.None, CultureInfo.InvariantCulture, out var last) || first > last || last == int.MaxValue)
            {
                throw new FormatException($"'{list}' is no host list: '{range}' is no range");
            }

            for (var i = first; i <= last; i++)
            {
                // leading zeros belong to the name: 08-10 is 08, 09, 10
                Expand(list, head + rest[..open] + i.ToString($"D{low.Length}", CultureInfo.InvariantCulture), rest[(close + 1)..], hosts);
            }
        }
    }
}
