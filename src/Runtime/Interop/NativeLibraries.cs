using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// The one place that opens native libraries. Each is optional and opened at first use: first the path in its environment variable
/// (the word "off" leaves it out), then the loader's own search over the names given. Nothing here throws when a library is absent.
/// </summary>
public static partial class NativeLibraries
{
    /// <summary>One line per optional library for `z1 doctor`: what was found and where, or what to install.</summary>
    public static string Describe() => OneDnn.Description;

    /// <summary>Opens the first library that answers.</summary>
    /// <param name="variable">environment variable that holds a path, or "off"</param>
    /// <param name="names">sonames in order of preference</param>
    internal static OpenedLibrary Open(string variable, params ReadOnlySpan<string> names) =>
        OpenAs(Environment.GetEnvironmentVariable(variable), variable, names);

    /// <summary>As <see cref="Open"/>, with the variable's value given.</summary>
    internal static OpenedLibrary OpenAs(string? chosen, string variable, params ReadOnlySpan<string> names)
    {
        if (string.Equals(chosen, "off", StringComparison.OrdinalIgnoreCase))
        {
            return new(0, $"left out by {variable}=off");
        }

        if (!string.IsNullOrEmpty(chosen))
        {
            return NativeLibrary.TryLoad(chosen, out var named)
                ? new(named, chosen)
                : new(0, $"{variable} names {chosen}, which cannot be loaded");
        }

        foreach (var name in names)
        {
            if (NativeLibrary.TryLoad(name, out var handle))
            {
                return new(handle, name);
            }
        }

        return new(0, $"not found as {string.Join(", ", names.ToArray())}");
    }

    /// <summary>The file that holds a symbol, or null where the system does not say.</summary>
    internal static unsafe string? FileOf(nint symbol)
    {
        if (!OperatingSystem.IsLinux())
        {
            return null;
        }

        SymbolInfo info = default;
        return dladdr(symbol, &info) != 0 ? Marshal.PtrToStringUTF8(info.FileName) : null;
    }

    [LibraryImport("libc")]
    private static unsafe partial int dladdr(nint addr, SymbolInfo* info);

    private struct SymbolInfo
    {
        public nint FileName, FileBase, SymbolName, SymbolAddress;
    }
}
