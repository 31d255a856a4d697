using System.Globalization;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Attention
{
    private static readonly HashSet<string> s_loaded = [];

    /// <summary>Tile sizes worth timing for a head dim; not each of them fits every device.</summary>
    public static IEnumerable<AttentionTiles> TileCandidates(int headDim)
    {
        foreach (var tileM in (int[])[64, 128])
        {
            foreach (var tileN in (int[])[32, 64])
            {
                foreach (var stages in (int[])[2, 3, 4])
                {
                    foreach (var step in (int[])[32, 64])
                    {
                        yield return new(tileM, tileN, stages, step, step, 2);
                    }
                }
            }
        }
    }

    /// <summary>Makes workspaces that are declared from now on use these tile sizes for a head dim; null: the default again.</summary>
    public static void UseTiles(int headDim, AttentionTiles? tiles) => AttentionVariant.Use(
        headDim, tiles is { } t ? new AttentionVariant(headDim, t.TileM, t.TileN, t.Stages, t.StepM, t.StepN, t.BackwardStages) : null);

    /// <summary>Keeps tile sizes for a device and head dim in the cache directory of kernels; returns the file.</summary>
    public static string StoreTiles(CudaDevice device, int headDim, AttentionTiles tiles)
    {
        ArgumentNullException.ThrowIfNull(device);
        var path = TilesFile(device, headDim);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        int[] values = [tiles.TileM, tiles.TileN, tiles.Stages, tiles.StepM, tiles.StepN, tiles.BackwardStages];
        File.WriteAllText(path + ".tmp", string.Join(' ', values.Select(v => v.ToString(CultureInfo.InvariantCulture))) + "\n");
        File.Move(path + ".tmp", path, overwrite: true);
        return path;
    }

    /// <summary>Takes the stored tile sizes of a device, once in a process; where there are none, or they are broken, the default stays.
    /// hostcuda has none: its times say nothing of tiles.</summary>
    public static void LoadTiles(CudaDevice device, int headDim)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (device.IsHostCuda)
        {
            return;
        }

        var path = TilesFile(device, headDim);
        bool first;
        lock (s_loaded)
        {
            first = s_loaded.Add(path);
        }

        if (!first || !File.Exists(path))
        {
            return;
        }

        var values = File.ReadAllText(path).Split(' ', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
            .Select(w => int.TryParse(w, CultureInfo.InvariantCulture, out var n) ? n : 0).ToArray();
        if (values.Length == 6)
        {
            var tiles = new AttentionTiles(values[0], values[1], values[2], values[3], values[4], values[5]);
            if (TileCandidates(headDim).Contains(tiles))
            {
                UseTiles(headDim, tiles);
            }
        }
    }

    private static string TilesFile(CudaDevice device, int headDim)
    {
        var name = new string([.. device.Name.Select(c => char.IsAsciiLetterOrDigit(c) ? c : '-')]);
        return Path.Combine(ModuleCache.DefaultDirectory(), $"attention-tiles-{name}-{device.Architecture}-{headDim}.txt");
    }
}
