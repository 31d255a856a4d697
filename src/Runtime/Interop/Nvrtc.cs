using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace Z1Coder.Runtime;

/// <summary>NVRTC, the compiler of device files: C++ in, a cubin for one architecture out. Needs no GPU.</summary>
internal static unsafe partial class Nvrtc
{
    public const string Variable = "Z1_NVRTC";

    public static readonly string[] Options = ["-std=c++20", "-lineinfo", "--ptxas-options=-v"];

    private const string Library = "nvrtc";

    /// <summary>"nvrtc 12.4", part of the key of every cached image.</summary>
    /// <exception cref="NotSupportedException">NVRTC is absent; one sentence</exception>
    public static string Version()
    {
        Require();
        int major, minor;
        Check(nvrtcVersion(&major, &minor));
        return string.Create(CultureInfo.InvariantCulture, $"nvrtc {major}.{minor}");
    }

    /// <summary>The library that suits the driver of this process: its major version, or an older one, which newer drivers load.</summary>
    public static OpenedLibrary OpenLibrary() => NativeLibraries.InToolkitsOfDriver(Variable, "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2");

    public static string Describe() => Describe(NativeLibraries.OpenNamed(Library));

    /// <summary>As <see cref="Describe()"/>, with the library given.</summary>
    public static string Describe(OpenedLibrary library)
    {
        if (library.Handle == 0)
        {
            return $"NVRTC: {library.NameOrReason}; kernels cannot be compiled for a GPU "
                + $"(install the package nvidia-cuda-nvrtc of pip or libnvrtc12 of Debian, or set {Variable} to the path of libnvrtc.so.12).";
        }

        var path = NativeLibraries.FileOf(NativeLibrary.GetExport(library.Handle, "nvrtcVersion")) ?? library.NameOrReason;
        return $"NVRTC: {Version()["nvrtc ".Length..]} at {path}, for {string.Join(", ", Architectures())}.";
    }

    public static KernelImage Compile(string stem, string text, IReadOnlyList<(string Name, string Text)> includes, string[] options, string architecture)
    {
        Require();
        if (!Supports(architecture))
        {
            throw new NotSupportedException(
                $"{Version()} cannot compile for {architecture} (it knows {string.Join(", ", Architectures())}); install a later NVRTC, or set {Variable} to its path");
        }

        using var strings = new Utf8Strings();
        var headers = strings.Array([.. includes.Select(i => i.Text)]);
        var names = strings.Array([.. includes.Select(i => i.Name)]);
        nint program;
        Check(nvrtcCreateProgram(&program, strings.One(text), strings.One($"{stem}.cu"), includes.Count, headers, names));
        try
        {
            var result = nvrtcCompileProgram(program, options.Length, strings.Array(options));
            nuint size;
            Check(nvrtcGetProgramLogSize(program, &size));
            var bytes = new byte[(int)size];
            fixed (byte* log = bytes)
            {
                Check(nvrtcGetProgramLog(program, log));
            }

            var said = Encoding.UTF8.GetString(bytes).TrimEnd('\0', '\n');
            if (result != 0)
            {
                throw new KernelCompileException($"{stem}.cu for {architecture}", Version(), said.Length > 0 ? said : ErrorText(result));
            }

            Check(nvrtcGetCUBINSize(program, &size));
            var image = new byte[(int)size];
            fixed (byte* cubin = image)
            {
                Check(nvrtcGetCUBIN(program, cubin));
            }

            return new(image, said, FromCache: false);
        }
        finally
        {
            _ = nvrtcDestroyProgram(&program);
        }
    }

    private static bool Supports(string architecture) =>
        Array.IndexOf(Architectures(), architecture.TrimEnd('a')) >= 0;

    /// <summary>"sm_80", … in ascending order.</summary>
    private static string[] Architectures()
    {
        int count;
        Check(nvrtcGetNumSupportedArchs(&count));
        var numbers = new int[count];
        fixed (int* p = numbers)
        {
            Check(nvrtcGetSupportedArchs(p));
        }

        return [.. numbers.Select(n => string.Create(CultureInfo.InvariantCulture, $"sm_{n}"))];
    }

    private static void Require()
    {
        if (NativeLibraries.OpenNamed(Library).Handle == 0)
        {
            throw new NotSupportedException(Describe());
        }
    }

    private static void Check(int result)
    {
        if (result != 0)
        {
            throw new InvalidOperationException($"NVRTC failed with {ErrorText(result)} ({result})");
        }
    }

    private static string ErrorText(int result) => Marshal.PtrToStringUTF8((nint)nvrtcGetErrorString(result)) ?? "an unknown error";

    [LibraryImport(Library)]
    private static partial int nvrtcVersion(int* major, int* minor);

    [LibraryImport(Library)]
    private static partial int nvrtcGetNumSupportedArchs(int* count);

    [LibraryImport(Library)]
    private static partial int nvrtcGetSupportedArchs(int* architectures);

    [LibraryImport(Library)]
    private static partial byte* nvrtcGetErrorString(int result);

    [LibraryImport(Library)]
    private static partial int nvrtcCreateProgram(nint* program, byte* source, byte* name, int headerCount, byte** headers, byte** includeNames);

    [LibraryImport(Library)]
    private static partial int nvrtcDestroyProgram(nint* program);

    [LibraryImport(Library)]
    private static partial int nvrtcCompileProgram(nint program, int optionCount, byte** options);

    [LibraryImport(Library)]
    private static partial int nvrtcGetProgramLogSize(nint program, nuint* size);

    [LibraryImport(Library)]
    private static partial int nvrtcGetProgramLog(nint program, byte* log);

    [LibraryImport(Library)]
    private static partial int nvrtcGetCUBINSize(nint program, nuint* size);

    [LibraryImport(Library)]
    private static partial int nvrtcGetCUBIN(nint program, byte* cubin);

    /// <summary>Zero-terminated copies that live until Dispose.</summary>
    private sealed class Utf8Strings : IDisposable
    {
        private readonly List<nint> _memory = [];

        public byte* One(string text)
        {
            var copy = Marshal.StringToCoTaskMemUTF8(text);
            _memory.Add(copy);
            return (byte*)copy;
        }

        public byte** Array(string[] texts)
        {
            var array = Marshal.AllocCoTaskMem((texts.Length + 1) * sizeof(nint));
            _memory.Add(array);
            for (var i = 0; i < texts.Length; i++)
            {
                ((byte**)array)[i] = One(texts[i]);
            }

            return (byte**)array;
        }

        public void Dispose() => _memory.ForEach(Marshal.FreeCoTaskMem);
    }
}
