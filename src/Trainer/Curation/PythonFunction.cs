namespace Z1Coder.Trainer.Curation;

/// <summary>A function at the top level of a Python file.</summary>
/// <param name="Name">its name</param>
/// <param name="Docstring">its docstring, without the quotes</param>
/// <param name="Source">the imports that it uses, decorators and the function</param>
/// <param name="Line">where it begins in its file, from 1</param>
/// <param name="Lines">lines of the function itself</param>
/// <param name="Returns">whether a statement of it returns or yields something</param>
public sealed record PythonFunction(string Name, string Docstring, string Source, int Line, int Lines, bool Returns);
